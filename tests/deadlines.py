"""The time limit of a test, also of one whose event loop runs.

pytest-timeout raises in its signal handler, once. In a running loop that ends nothing: uvloop hands
the exception to the loop's exception handler, and asyncio to whichever task was running. The test
goes on without any limit, and so does a teardown that hangs after a failure. Here the tasks of a
running loop are cancelled instead, and whatever runs in a loop after that again and again. What
pytest-timeout does not end either is a teardown that blocks without a loop.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from types import FrameType

import pytest
from pytest_timeout import is_debugging  # type: ignore[import-untyped]

#: How long a teardown, or a test that suppressed its end, may take after that.
AGAIN_S = 30.0


class Deadline:
    """Ends what the main thread does after `limit_s`, and then every `AGAIN_S`, until `cancel`."""

    def __init__(self, limit_s: float) -> None:
        self._text = f"Timeout (>{limit_s:g}s): see tests/deadlines.py"
        self._first = True
        self._loop: asyncio.AbstractEventLoop | None = None
        signal.signal(signal.SIGALRM, self._over)
        signal.setitimer(signal.ITIMER_REAL, limit_s, AGAIN_S)

    def cancel(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)

    def _over(self, _number: int, _frame: FrameType | None) -> None:
        if is_debugging():
            return
        first, self._first = self._first, False
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if not first:
                return  # pytest may be at work by now, which no exception must reach
            pytest.fail(self._text)
        if loop is self._loop:
            # It has not come to it since the last time: a call that blocks.
            pytest.fail(self._text)
        self._loop = loop
        # Later: this handler may run in the middle of a step of any task.
        loop.call_soon_threadsafe(self._cancel_all, loop)

    def _cancel_all(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        for task in asyncio.all_tasks(loop):
            task.print_stack(file=sys.stderr)
            task.cancel(self._text)
