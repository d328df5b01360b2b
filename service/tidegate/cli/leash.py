"""Run a command that dies with its parent: ``python -I -S leash.py PARENT_PID SIGNAL COMMAND...``.

``tidegate run`` that is killed with SIGKILL cannot end its children, so on Linux the kernel does
(PR_SET_PDEATHSIG outlives exec). This program replaces itself with the command, so the process id
is the command's. It is a program because a ``preexec_fn`` is not safe beside threads.
Elsewhere than on Linux ``janitor`` does the same a moment later.
"""

import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        import ctypes

        # Best effort: where it is refused (some sandboxes), the janitor is left.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal)
    if os.getppid() != parent:  # it died before the leash was on
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main()
