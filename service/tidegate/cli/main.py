"""The ``tidegate`` command: names its commands, nothing else."""

from __future__ import annotations

from tidegate.cli.application import new_application
from tidegate.cli.cancel import cancel
from tidegate.cli.doctor import doctor
from tidegate.cli.publish import publish
from tidegate.cli.run import run
from tidegate.cli.run_task import run_task
from tidegate.cli.serve import serve
from tidegate.cli.settings_command import settings
from tidegate.cli.size import size
from tidegate.cli.token_command import token
from tidegate.cli.top import top
from tidegate.cli.watch import watch

app = new_application(
    "tidegate",
    """\
Tidegate: watch long-running operations live, from a Redis Stream, on any number of replicas.

**Try it**

`tidegate run` starts an embedded server, two replicas and a demo backend

`tidegate publish 42 '{"progress": 0.5}'` appends one update, as any backend would with XADD

`tidegate watch 42` follows the operation, through the death of a replica too

`tidegate run-task --operation 42 -- ./export.sh` runs a program as an operation

`tidegate cancel 42` asks its worker to stop

`tidegate top` shows what each replica does, and the busiest operations

**For real**

`tidegate doctor --redis redis://redis:6379/0` tries what a gateway needs of this Redis

`tidegate serve --auth none --redis redis://redis:6379/0` is one replica of the gateway

`tidegate size` estimates how many replicas are needed, and how large
""",
)

app.command()(run)
app.command()(serve)
app.command()(publish)
app.command()(watch)
app.command()(run_task)
app.command()(cancel)
app.command()(top)
app.command()(doctor)
app.command()(size)
app.add_typer(token, name="token")
app.command()(settings)


if __name__ == "__main__":
    app(prog_name="tidegate")
