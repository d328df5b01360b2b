"""A browser of this desktop, for the page of ``tidegate run``.

Opened only where someone sits: on a terminal, with a display. Over SSH, in CI and in a container
nothing is opened, and no browser of the terminal (w3m, lynx) is started in front of the demo's own
output. A browser that cannot be opened is no error: the address was printed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser


def has_desktop() -> bool:
    """Whether this process runs on a terminal of a desktop."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or os.environ.get("CI"):
        return False
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_page(url: str) -> None:
    """Open ``url``; it may take the browser seconds to answer."""
    with contextlib.suppress(webbrowser.Error, OSError):
        webbrowser.open(url)
