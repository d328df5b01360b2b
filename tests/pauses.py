"""`make test-pauses`: the quick tier on a machine that stands still at random moments.

Runs pytest and, seeded, stops it for 0.2 to 1.5 s again and again: in turns its whole process tree,
as when a machine stalls, and one of pytest's own processes, which then meets servers that went on.
A test that looks at a moment too late fails here in minutes instead of once a week elsewhere.
For people and for nights; needs Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

BETWEEN_S = (2.0, 8.0)
PAUSE_S = (0.2, 1.5)
PYTEST = ("-m", "pytest", "--tier", "quick", "-n", "auto", "--dist", "loadgroup")
#: Not of the quick tier, as in the Makefile.
IGNORED = ("--ignore=tests/dashboards", "--ignore=tests/cluster")


def parsed(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m tests.pauses",
        description="Run the tests while stopping them for moments. Other arguments go to pytest.",
    )
    parser.add_argument("--seed", type=int, default=None, help="of the pauses; printed")
    parser.add_argument("--runs", type=int, default=1, help="so many, one seed after the other")
    return parser.parse_known_args(arguments)


def state(pid: int) -> str:
    """R, S, D, T and so on (proc(5)); empty when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def tree(pid: int) -> list[int]:
    """This process and all below it, parents first."""
    found = [pid]
    for one in found:
        try:
            tasks = list(Path(f"/proc/{one}/task").iterdir())
            found += [int(c) for task in tasks for c in (task / "children").read_text().split()]
        except OSError:
            continue  # it has gone
    return found


def pytests(pid: int) -> list[int]:
    """pytest and its workers, which are its children with the same program."""
    program = Path(f"/proc/{pid}/exe").readlink()
    own = [pid]
    for child in tree(pid)[1:]:
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes()
            if Path(f"/proc/{child}/exe").readlink() == program and b"execnet" in line:
                own.append(child)
        except OSError:
            continue
    return own


def send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def pause(pids: list[int], seconds: float) -> None:
    """Stop what runs. What a test has stopped itself stays stopped afterwards."""
    stopped = []
    try:
        for pid in pids:
            if state(pid) not in ("", "T", "t", "Z"):
                send(pid, signal.SIGSTOP)
                stopped.append(pid)
        time.sleep(seconds)
    finally:
        for pid in reversed(stopped):
            send(pid, signal.SIGCONT)


def ended(process: subprocess.Popen[bytes], within_s: float) -> int | None:
    """Its status; None when it still runs after so long."""
    try:
        return process.wait(within_s)
    except subprocess.TimeoutExpired:
        return None


def run(seed: int, options: list[str]) -> int:
    """One run; pytest's exit status."""
    chance = random.Random(seed)
    command = [sys.executable, *PYTEST, *IGNORED, *options]
    print(f"pauses: seed {seed}: {shlex.join(command[1:])}", flush=True)
    process = subprocess.Popen(command)
    count = 0
    total_s = 0.0
    try:
        while (status := ended(process, chance.uniform(*BETWEEN_S))) is None:
            length_s = chance.uniform(*PAUSE_S)
            own = pytests(process.pid)
            whole = chance.random() < 0.5
            pause(tree(process.pid) if whole else [chance.choice(own)], length_s)
            count += 1
            total_s += length_s
    except BaseException:
        process.terminate()
        process.wait()
        raise
    print(f"pauses: seed {seed}: {count} pauses, {total_s:.0f} s, status {status}", flush=True)
    return status


def main() -> int:
    known, options = parsed(sys.argv[1:])
    if not Path("/proc/self/task").exists():
        print("pauses: needs Linux (/proc)", file=sys.stderr)
        return 2
    first = random.SystemRandom().randrange(1_000_000) if known.seed is None else known.seed
    worst = 0
    for number in range(known.runs):
        worst = max(worst, run(first + number, options))
    return worst


if __name__ == "__main__":
    sys.exit(main())
