"""A small process that outlives ``tidegate run`` to clean up: ``python -I -S janitor.py``.

It makes the temporary folder, prints its path, and reads ``+PID`` and ``-PID`` lines from its
stdin. At the end of stdin, however the parent ended, it ends the processes that are left (SIGTERM,
then SIGKILL) and removes the folder. It leads a session of its own, so Ctrl-C does not reach it.
"""

import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

GRACE_S = 2.0
REMOVE_FOR_S = 5.0


def main() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    folder = Path(tempfile.mkdtemp(prefix="tidegate-run-"))
    sys.stdout.write(f"{folder}\n")
    sys.stdout.close()
    left: set[int] = set()
    for line in sys.stdin:
        if line.startswith("+"):
            left.add(int(line[1:]))
        elif line.startswith("-"):
            left.discard(int(line[1:]))
    _end(left)
    # A server that is just ending may still write into it.
    deadline = time.monotonic() + REMOVE_FOR_S
    while folder.exists() and time.monotonic() < deadline:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)


def _end(pids: set[int]) -> None:
    deadline = time.monotonic() + GRACE_S
    pids = {pid for pid in pids if _signal(pid, signal.SIGTERM)}
    while pids and time.monotonic() < deadline:
        time.sleep(0.02)
        pids = {pid for pid in pids if _signal(pid, 0)}
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
