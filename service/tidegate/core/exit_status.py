"""The exit status of a process as text."""

from __future__ import annotations

import signal


def how_it_ended(status: int) -> str:
    """An exit status as text; negative ones are signals, as in `subprocess`."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
