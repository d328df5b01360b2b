"""`python -m dashboards.src` writes the boards; `--check` only tells whether they would change."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dashboards.src.boards import BOARDS

FOLDER = Path(__file__).parents[1] / "boards"


def texts() -> dict[Path, str]:
    """Every file under dashboards/boards, and what belongs in it."""
    return {FOLDER / f"{board.name}.json": board.to_json() for board in BOARDS}


def stale() -> list[Path]:
    """Files that are missing, different, or not ours."""
    wanted = texts()
    there = set(FOLDER.glob("*"))
    return sorted(
        {path for path, text in wanted.items() if path not in there or path.read_text() != text}
        | (there - wanted.keys())
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if files differ")
    if parser.parse_args().check:
        for path in stale():
            sys.stderr.write(f"{path} is not what the source makes: python -m dashboards.src\n")
        return 1 if stale() else 0
    FOLDER.mkdir(exist_ok=True)
    for path in set(stale()) - texts().keys():
        path.unlink()
    for path, text in texts().items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
