"""How commands speak: results to stdout, everything else to stderr, failures with an exit code.

Exit codes of all commands: 0 done, 1 failed, 2 wrong usage or refused, 3 cancelled,
130 ended by Ctrl-C.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NoReturn

import typer

if TYPE_CHECKING:
    from rich.console import Console

OK = 0
FAILED = 1
REFUSED = 2
CANCELLED = 3
INTERRUPTED = 130


@cache
def stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False)


@cache
def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def fail(text: str, code: int = FAILED) -> NoReturn:
    """Say ``text`` on stderr, literally (it is not markup), and end with ``code``."""
    for line in text.splitlines():
        stderr().print(f"tidegate: {line}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(code)


@contextmanager
def failures_told() -> Iterator[None]:
    """An error of ours ends the command with its text: 2 for settings, 1 for anything else."""
    from tidegate.model.errors import SettingsError, TidegateError

    try:
        yield
    except SettingsError as error:
        fail(str(error), REFUSED)
    except TidegateError as error:
        fail(str(error), FAILED)
