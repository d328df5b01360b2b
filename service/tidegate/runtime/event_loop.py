"""The event loop of a replica: uvloop where it is installed (it is not on Windows or PyPy)."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable


def loop_factory() -> Callable[[], AbstractEventLoop] | None:
    """The argument `loop_factory` of `asyncio.Runner`; None: the default of asyncio."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
