"""The ``tidegate-operator`` command: names its commands, nothing else."""

from __future__ import annotations

from tidegate.cli.application import new_application
from tidegate_operator.cli.crd import crd
from tidegate_operator.cli.run import run
from tidegate_operator.cli.simulate import simulate
from tidegate_operator.cli.sweep import sweep

app = new_application(
    "tidegate-operator",
    "The Kubernetes operator of Tidegate: scales gateways, and cleans up after them in Redis.",
)

app.command()(run)
app.command()(simulate)
app.command()(sweep)
app.command()(crd)


if __name__ == "__main__":
    app(prog_name="tidegate-operator")
