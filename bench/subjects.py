"""What is measured: how to start a server under test and how to know that it is ready.

A subject is only a command line and an address, so another version or another program is measured
by the same rule. The placeholders are {port}, {admin_port}, {redis} and {pod}.
"""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.errors import NotPossible
from bench.scenarios import Kind
from bench.ways import Way


@dataclass(frozen=True, slots=True)
class Subject:
    """A server that answers `GET ready` with 200 and serves `/ws/operations/<id>` on {port}.

    `signs_in`: it knows users by their tokens, and counts their connections. `speaks` is what its
    viewers speak where the scenario says socket. `api`: entries go to this URL in Centrifugo's
    batches, and not into Redis. `by_script`: into Redis by the script of the Python package, and
    not by a plain `XADD`. `scraped`: where a Prometheus would ask, if it is to be asked.
    `times`: so many times the operations of the scenario. `version`: what a server that is not ours
    says of itself.
    """

    name: str
    argv: tuple[str, ...]
    ready: str
    ways: frozenset[Way] = frozenset({Way.SOCKET})
    signs_in: bool = False
    speaks: Way = Way.SOCKET
    api: str = ""
    by_script: bool = False
    scraped: str = ""
    kinds: frozenset[Kind] = frozenset(Kind)
    times: int = 1
    version: str = ""

    def command(self, **values: object) -> list[str]:
        return [part.format(**values) for part in self.argv]

    def with_args(self, more: tuple[str, ...]) -> "Subject":
        """The same with these arguments added."""
        literal = tuple(part.replace("{", "{{").replace("}", "}}") for part in more)
        return replace(self, argv=(*self.argv, *literal))

    def ready_url(self, **values: object) -> str:
        return self.ready.format(**values)

    def api_url(self, **values: object) -> str:
        return self.api.format(**values)

    def scraped_url(self, **values: object) -> str:
        return self.scraped.format(**values)


UNMEASURED: Final = "no metrics"
WORKERS: Final = " workers"
NAIVE: Final = Subject(
    name="naive",
    argv=(sys.executable, "-m", "bench.naive", "--port", "{port}", "--redis", "{redis}"),
    ready="http://127.0.0.1:{port}/readyz",
    # It has no link that could be ended, and joins nothing.
    kinds=frozenset(Kind) - {Kind.BURST, Kind.TOKENS},
)


def gateway(extra: tuple[str, ...] = ()) -> Subject:
    """The gateway of this environment, with `extra` arguments.

    Raises `NotPossible` when it is not installed."""
    script = Path(sys.executable).with_name("tidegate")
    if not script.exists():
        raise NotPossible(
            f"there is no `tidegate` next to {sys.executable}: run `make bench`, which installs "
            "it, or measure only the baseline with --baseline-only"
        )
    return Subject(
        name="tidegate",
        argv=(
            str(script),
            "serve",
            "--host", "127.0.0.1",
            "--port", "{port}",
            "--admin-port", "{admin_port}",
            "--redis", "{redis}",
            "--pod", "{pod}",
            "--set", "server.auth=none",  # a later one wins
        ),
        ready="http://127.0.0.1:{admin_port}/readyz",
        ways=frozenset(Way),
        signs_in=True,
    ).with_args(extra)  # fmt: skip


def with_and_without_metrics(extra: tuple[str, ...] = ()) -> tuple[Subject, Subject]:
    """The gateway that measures and is scraped, and the same one with metrics off.

    Raises `NotPossible` when it is not installed."""
    ours = gateway(extra)
    return (
        replace(ours, scraped="http://127.0.0.1:{admin_port}/metrics"),
        replace(ours, name=UNMEASURED).with_args(("--set", "metrics.enabled=false")),
    )


def with_workers(
    workers: int, extra: tuple[str, ...] = (), *, load_for_each: bool = False
) -> tuple[Subject, Subject]:
    """The gateway as one process, and the same with so many workers: with the same load, or with
    that load for each of them.

    Raises `NotPossible` when it is not installed."""
    one = replace(gateway(extra), kinds=frozenset({Kind.LIVE, Kind.CONNECTS}))
    arguments = ("--workers", str(workers))
    name = f"{workers}{WORKERS}"
    if not load_for_each:
        return one, replace(one, name=name).with_args(arguments)
    name = f"{workers} times the load, {name}"
    return one, replace(one, name=name, times=workers).with_args(arguments)


def published_by_script(extra: tuple[str, ...] = ()) -> Subject:
    """The gateway, whose backends publish with the Python package or over HTTP.

    Raises `NotPossible` when it is not installed."""
    return replace(gateway(extra), name="publish", by_script=True, kinds=frozenset({Kind.LIVE}))
