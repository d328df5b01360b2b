"""Run a command that dies with its parent: `python -I -S leash.py PARENT_PID COMMAND...`.

A test run that is killed with SIGKILL has no chance to clean up, so on Linux the kernel does it
(PR_SET_PDEATHSIG survives exec). This little program replaces itself with the command, so that the
process id is the server's. It is a program because `preexec_fn` is not safe in a process with
threads, and warns there since Python 3.12. Elsewhere than on Linux only `process`'s atexit helps.
The signal is sent when the *thread* that started us ends: start servers from the main thread.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
            sys.exit(f"leash: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it died before the leash was on
        sys.exit("leash: the parent is gone")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
