"""`python -m tests.fuzz <target> [seconds]`: one target under Atheris; a finding ends it with 1.

`make fuzz` runs all of them in turn. Where Atheris is missing it says so and does nothing.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from typing import Any

INSTRUMENTED = ["tidegate", "websockets.frames", "websockets.protocol", "websockets.streams"]


def main(arguments: list[str]) -> int:
    """Run it, or list the targets when none is named."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        sys.stderr.write("fuzz: atheris is not installed (pip install atheris); nothing was run\n")
        return 0
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS
    if not arguments:
        sys.stdout.write("\n".join(TARGETS) + "\n")
        return 0
    name, *rest = arguments
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="tidegate-fuzz-") as corpus:
        for number, seed in enumerate(target.seeds):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        seconds = rest[0] if rest else "60"
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1"]
        sys.stderr.write(f"fuzz: {name} for {seconds} s\n")
        atheris.Setup(["fuzz", *options, "-artifact_prefix=build/fuzz-", corpus], target.run)
        atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
