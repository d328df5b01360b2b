"""``tidegate run-task``: runs a program as an operation: its output, its progress, how it ended."""

from __future__ import annotations

from typing import Annotated

import typer

from tidegate.cli import options
from tidegate.cli.console import REFUSED, fail, failures_told, stderr

GRACE_S = 10.0
#: For the last entries, at the end; Redis may be away.
FLUSH_S = 5.0


def run_task(
    command: Annotated[
        list[str], typer.Argument(help="The program and its arguments.", metavar="-- COMMAND...")
    ],
    operation: Annotated[str, typer.Option("--operation", help="Operation id.", metavar="ID")],
    title: Annotated[
        str | None, typer.Option("--title", help="What viewers see; else the program's name.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log/--no-log", help="Publish the lines of output (type `log`).")
    ] = True,
    percent: Annotated[
        bool, typer.Option("--percent/--no-percent", help="`45%` in a line moves the bar.")
    ] = True,
    grace_s: Annotated[
        float,
        typer.Option("--grace", min=0, help="Seconds between SIGTERM and SIGKILL when stopped."),
    ] = GRACE_S,
    redis: options.Redis = None,
    prefix: options.Prefix = None,
    config: options.Config = None,
    assignments: options.Assignments = None,
) -> None:
    """Run a program, and report it as an operation. Ends with the program's exit code.

    Its output still goes to stdout and stderr. It completes with exit code 0 and fails with any
    other. When a viewer asks to cancel it, the program and its children get SIGTERM, and SIGKILL
    after a while; the exit code is 3 then. The program runs whether Redis is there or not, and
    finds its id in `OPERATION_ID`.

    **Examples**

    `tidegate run-task --operation 42 -- ./export.sh --all`

    `tidegate run-task --operation 42 --title 'Nightly copy' -- rsync -a --info=progress2 src/ dst/`
    """
    settings = options.load(
        {"--redis": redis, "--prefix": prefix}, assignments=assignments, config=config
    ).settings

    import asyncio

    from tidegate.cli.task_process import TaskProcess
    from tidegate.integrations.reporter import TaskReporter
    from tidegate.model.errors import InvalidOperationId
    from tidegate.model.ids import parse_operation_id

    try:
        parse_operation_id(operation)
    except InvalidOperationId as error:
        fail(str(error), REFUSED)
    with failures_told():
        reporter = TaskReporter(settings.redis)
    task = TaskProcess(
        reporter, operation, command, title=title, log=log, percent=percent, grace_s=grace_s
    )
    code = asyncio.run(task.run())
    if not reporter.close(FLUSH_S):
        stderr().print(
            f"tidegate: operation {operation}: Redis did not take the last updates in time",
            style="yellow",
            markup=False,
        )
    raise typer.Exit(code)
