"""The one table of close codes; the documentation, the clients and the tests are made from it.

1000 to 1015 are RFC 6455 section 7.4.1; 4000 + an HTTP status is ours (the range 4000-4999 is for
applications). A refusal is sent after the socket was accepted, with an `error` frame before it: a
browser shows a close before the handshake as a bare 1006.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class ComeBack(enum.Enum):
    """What a client should do after a close."""

    NO = "no"
    YES = "yes"
    LATER = "after a delay"


class CloseCode(NamedTuple):
    """One row: the number on the wire, its name, what it means, and whether to come back."""

    code: int
    name: str
    meaning: str
    come_back: ComeBack


FINISHED = CloseCode(1000, "finished", "the operation has finished", ComeBack.NO)
ABNORMAL = CloseCode(1006, "abnormal", "the connection broke (never sent)", ComeBack.YES)
INVALID_DATA = CloseCode(1007, "invalid_data", "a text frame was not UTF-8", ComeBack.NO)
TOO_BIG = CloseCode(1009, "too_big", "a message was over the size limit", ComeBack.NO)
KEEPALIVE = CloseCode(1011, "keepalive", "ping timeout, or an internal error", ComeBack.YES)
DRAINING = CloseCode(1012, "draining", "this replica is shutting down", ComeBack.YES)
OVERLOADED = CloseCode(1013, "overloaded", "temporarily unavailable", ComeBack.LATER)
BAD_REQUEST = CloseCode(4400, "bad_request", "the request cannot be understood", ComeBack.NO)
UNAUTHENTICATED = CloseCode(4401, "unauthenticated", "token missing or invalid", ComeBack.NO)
FORBIDDEN = CloseCode(4403, "forbidden", "watching this operation is not allowed", ComeBack.NO)
NOT_FOUND = CloseCode(4404, "not_found", "there is no such operation", ComeBack.NO)
SLOW = CloseCode(4408, "slow", "the viewer did not read fast enough", ComeBack.LATER)
REPLACED = CloseCode(4409, "replaced", "replaced by a newer connection", ComeBack.NO)
EXPIRED = CloseCode(4410, "expired", "the operation's stream no longer exists", ComeBack.NO)
CONNECTION_LIMIT = CloseCode(4429, "connection_limit", "too many connections", ComeBack.LATER)

CLOSE_CODES: dict[int, CloseCode] = {
    row.code: row
    for row in (
        FINISHED,
        ABNORMAL,
        INVALID_DATA,
        TOO_BIG,
        KEEPALIVE,
        DRAINING,
        OVERLOADED,
        BAD_REQUEST,
        UNAUTHENTICATED,
        FORBIDDEN,
        NOT_FOUND,
        SLOW,
        REPLACED,
        EXPIRED,
        CONNECTION_LIMIT,
    )
}


def come_back(code: int) -> ComeBack:
    """What to do after a close with this code; a code outside the table means a network fault."""
    row = CLOSE_CODES.get(code)
    return ComeBack.YES if row is None else row.come_back


def close_codes_table() -> str:
    """The table in Markdown, for the documentation."""
    rows = [
        f"| {r.code} | `{r.name}` | {r.meaning} | {r.come_back.value} |"
        for r in CLOSE_CODES.values()
    ]
    return "\n".join(["| code | name | meaning | reconnect |", "|---|---|---|---|", *rows])
