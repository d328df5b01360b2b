"""`clients/js/src/close-codes.ts`, made from the gateway's table of close codes.

`python -m tests.clients.close_codes` writes it anew; a test holds it to the table.
"""

from __future__ import annotations

from pathlib import Path

from tidegate.model.close_codes import CLOSE_CODES, ComeBack

FILE = Path(__file__).parents[2] / "clients" / "js" / "src" / "close-codes.ts"
_NAMES = {ComeBack.NO: "no", ComeBack.YES: "yes", ComeBack.LATER: "later"}


_HEAD = """\
// Made by `python -m tests.clients.close_codes`; do not edit.

/** What to do after a close: give up, come back, or come back after a delay. */
export type ComeBack = "no" | "yes" | "later";

/** By code. One that is not here means a fault on the way. */
export const CLOSE_CODES: Readonly<Record<number, ComeBack>> = {
"""


def source() -> str:
    """The file as the table has it now."""
    rows = [
        f'  /** {row.name}: {row.meaning} */\n  {row.code}: "{_NAMES[row.come_back]}",\n'
        for row in CLOSE_CODES.values()
    ]
    return f"{_HEAD}{''.join(rows)}}};\n"


if __name__ == "__main__":
    FILE.write_text(source(), "utf-8")
