"""What the commands of the bench share: the console, common options, progress, signals and errors.

Exit status of every command: 0 when it succeeded, 1 when it found a problem, 2 when it could not
run, 130 or 143 when it was interrupted.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from bench import results
from bench.errors import BenchError

#: Width of the output if it is not a terminal.
WIDTH: Final = 120

T = TypeVar("T")
console = Console()
if not console.is_terminal:
    console = Console(width=WIDTH)

RedisServer = Annotated[
    str | None, typer.Option(help="Redis or Valkey binary; default: the embedded Valkey.")
]
JsonName = Annotated[
    str | None,
    typer.Option("--json", metavar="NAME", help="Save the result as bench/results/NAME.json."),
]


def end(
    json_name: str | None, document: dict[str, Any], wrong: Sequence[str], fine: str = ""
) -> NoReturn:
    """Save the result if that was requested, print the problems, and exit with 0 or 1.

    `fine` is printed if there is no problem.
    """
    if json_name is not None:
        console.print(f"saved to {results.save(json_name, document)}", soft_wrap=True)
    for text in wrong:
        console.print(f"[bold red]{escape(text)}[/bold red]")
    if fine and not wrong:
        console.print(f"[green]{fine}[/green]")
    raise typer.Exit(1 if wrong else 0)


class Interrupted(BaseException):
    """SIGINT or SIGTERM has ended the run, and everything was cleaned up."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(status)


def progress_bar(*more: ProgressColumn) -> Progress:
    """A progress bar, drawn only twice a second: drawing uses the core of the load."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *more,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        refresh_per_second=2,
    )


def until_interrupted(
    work: Coroutine[Any, Any, T],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run `work`.

    Raises:
        Interrupted: a signal has cancelled it, and it has cleaned up.
    """
    got: list[int] = []

    async def supervised() -> T:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            got.append(number)
            if task is not None and len(got) == 1:
                task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        return await work

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(supervised())
    except asyncio.CancelledError:
        raise Interrupted(128 + got[0] if got else 1) from None


@contextmanager
def errors_shown() -> Iterator[None]:
    """Print errors that are meant for the user, and exit with status 2."""
    try:
        yield
    except BenchError as error:
        console.print(f"[bold red]{escape(str(error))}[/bold red]", highlight=False)
        raise typer.Exit(2) from error
    except Interrupted as interrupted:
        raise typer.Exit(interrupted.status) from None
