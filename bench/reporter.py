"""What a task pays for reporting: `python -m bench.reporter [CALLS]`.

Each row calls at full rate, against a fresh server or against nobody, and tells the CPU time of the
calling thread and the time on the clock for each call. The target is 50 us for `progress`.

    Publisher        writes from the calling thread, when the interval is over
    TaskReporter         the buffer and its thread
    ... away         nobody listens at the address
"""

from __future__ import annotations

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Final

from bench.stage import free_port, redis_binary
from tidegate.client.publisher import Publisher
from tidegate.integrations.reporter import TaskReporter

CALLS: Final = 100_000
ROUNDS: Final = 5
TARGET_US: Final = 50.0


def measure(call: Callable[[int], object], calls: int) -> tuple[float, float]:
    """CPU and clock of one call in us: the median round."""
    found = []
    for _ in range(ROUNDS):
        cpu, clock = time.thread_time(), time.perf_counter()
        for number in range(calls // ROUNDS):
            call(number)
        share = 1e6 / (calls // ROUNDS)
        found.append(((time.thread_time() - cpu) * share, (time.perf_counter() - clock) * share))
    return sorted(found)[ROUNDS // 2]


def main(calls: int) -> int:
    logging.disable(logging.WARNING)
    port, nobody = free_port(), free_port()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [redis_binary(), "--port", str(port), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        try:
            here = TaskReporter(f"redis://127.0.0.1:{port}/0")
            away = TaskReporter(f"redis://127.0.0.1:{nobody}/0")
            direct = Publisher(f"redis://127.0.0.1:{port}/0")
            while not here.flush(0.1):
                pass
            token = {"text": "x"}
            rows: list[tuple[str, Callable[[int], object], bool]] = [
                ("Publisher.progress", lambda n: direct.progress("p", n / calls), False),
                ("TaskReporter.progress", lambda n: here.progress("r", n / calls), True),
                ("TaskReporter.progress, away", lambda n: away.progress("r", n / calls), True),
                (
                    "TaskReporter.publish",
                    lambda _: here.publish("t", "append", token),
                    False,
                ),
                (
                    "TaskReporter.publish, away",
                    lambda _: away.publish("t", "append", token),
                    False,
                ),
                ("TaskReporter.cancel_requested", lambda _: here.cancel_requested("r"), True),
            ]
            print(f"{'':28}{'CPU':>10}{'clock':>10}   us for each of {calls:,} calls")
            for name, call, is_bounded in rows:
                cpu, clock = measure(call, calls)
                worst = max(worst, cpu if is_bounded else 0.0)
                print(f"{name:28}{cpu:10.1f}{clock:10.1f}")
            direct.close()
            here.close()
            away.close(0)
        finally:
            server.terminate()
            server.wait()
    print(f"target: {TARGET_US:.0f} us of CPU; {'met' if worst <= TARGET_US else 'MISSED'}")
    return 0 if worst <= TARGET_US else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS))
