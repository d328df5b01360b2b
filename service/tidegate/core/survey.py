"""What replicas report of themselves when one of them asks all others (a survey).

The one whose console is open sends a `SurveyRequest`; each answers with a `ReplicaReport`, which
has the first of its operations and users, or for one operation with an `OperationReport`. Every
field is bounded, because anyone with access to Redis can send a request or an answer.
`core.survey_merge` puts reports together.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from tidegate.model.ids import OPERATION_ID_MAX_LENGTH, OPERATION_ID_PATTERN
from tidegate.model.operation_order import OperationOrder

Row = TypeVar("Row", bound=msgspec.Struct)

#: Rows of one report; with their bounds in bytes a report has about 45 KB at the most.
OPERATIONS_MAX = 100
OPERATIONS_MAX_BYTES = 28_672
USERS_MAX = 50
USERS_MAX_BYTES = 12_288
#: Characters of a text that someone else has written, such as a status.
TEXT_MAX = 80
USER_MAX = 256
INCARNATION_MAX = 512

Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Text = Annotated[str, Meta(max_length=TEXT_MAX)]
Token = Annotated[str, Meta(pattern=r"^[0-9a-f]{24}\Z")]
User = Annotated[str, Meta(min_length=1, max_length=USER_MAX)]
Operation = Annotated[
    str, Meta(max_length=OPERATION_ID_MAX_LENGTH, pattern=rf"^{OPERATION_ID_PATTERN}\Z")
]
Cursor = Annotated[str, Meta(pattern=r"^[0-9]{1,20}-[0-9]{1,20}\Z")]
Incarnation = Annotated[str, Meta(min_length=1, max_length=INCARNATION_MAX)]


class SurveyRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="survey"):
    """Report on yourself. `id` is the request's, `reply_to` tells the channel of the one who asks.

    `search` and `user_search` are parts of ids, in any case.
    """

    id: Token
    reply_to: Token
    order: OperationOrder = OperationOrder.VIEWERS
    search: Annotated[str, Meta(max_length=OPERATION_ID_MAX_LENGTH)] = ""
    user_search: Annotated[str, Meta(max_length=USER_MAX)] = ""


class OperationSurveyRequest(msgspec.Struct, frozen=True, tag_field="kind", tag="survey_operation"):
    """Report on one operation."""

    id: Token
    reply_to: Token
    operation: Operation


Request = SurveyRequest | OperationSurveyRequest


class ViewerCounts(msgspec.Struct, frozen=True):
    """Viewers by state."""

    live: Count = 0
    lagging: Count = 0
    catching_up: Count = 0


class DrainProgress(msgspec.Struct, frozen=True):
    """A drain: since when, how long it takes, and connections that were asked to reconnect."""

    elapsed_s: Seconds
    window_s: Seconds
    moved: Count


class ReportedFigures(msgspec.Struct, frozen=True):
    """A replica as a whole. Totals count from its start; None is what it does not measure."""

    version: Text = ""
    uptime_s: Seconds = 0.0
    ready: bool = True
    reason: Annotated[str, Meta(max_length=500)] = ""
    connections: Count = 0
    connections_max: Count | None = None
    users: Count = 0
    entries: Count = 0
    deliveries: Count = 0
    gaps: Count = 0
    undispatched: Count = 0
    loop_lag_p99_s: Seconds | None = None
    delivery_p99_s: Seconds | None = None
    redis_connected: bool = True
    drain: DrainProgress | None = None


class ReportedOperation(msgspec.Struct, frozen=True):
    """One operation on one replica, in a list of many. `entries` since it is followed there."""

    operation: Operation
    status: Text
    finished: bool
    cursor: Cursor
    entries: Count
    live: Count
    lagging: Count
    catching_up: Count
    dispatches: bool


class ReportedUser(msgspec.Struct, frozen=True):
    """A user's connections with a slot on one replica; `limit` is the greatest of their tokens."""

    user: User
    connections: Count
    limit: Count


class ReplicaReport(msgspec.Struct, frozen=True, tag_field="kind", tag="replica"):
    """The answer to a `SurveyRequest`. `matching` is how many the search found, `operations_total`
    how many are followed.
    """

    id: Token
    incarnation: Incarnation
    figures: ReportedFigures
    viewers: ViewerCounts
    operations_total: Count
    operations_matching: Count
    operations: Annotated[tuple[ReportedOperation, ...], Meta(max_length=OPERATIONS_MAX)]
    users_matching: Count
    users: Annotated[tuple[ReportedUser, ...], Meta(max_length=USERS_MAX)]


class OperationReport(msgspec.Struct, frozen=True, tag_field="kind", tag="operation"):
    """The answer to an `OperationSurveyRequest`. Not `followed`: the rest says nothing."""

    id: Token
    incarnation: Incarnation
    followed: bool
    state: Text = ""
    status: Text = ""
    finished: bool = False
    cursor: Cursor = "0-0"
    epoch: Count = 0
    gaps: Count = 0
    entries: Count = 0
    viewers: ViewerCounts = ViewerCounts()
    ahead: Count = 0
    waiting: Count = 0
    role: Text = ""
    node: Annotated[str, Meta(max_length=300)] = ""
    stale: bool = False
    replay_frames: Count = 0
    replay_bytes: Count = 0


Report = ReplicaReport | OperationReport

_decode = msgspec.json.Decoder(Report).decode


def read_report(payload: bytes) -> Report:
    """A report as it came.

    Raises:
        ValueError: it is none.
    """
    try:
        report: Report = _decode(payload)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return report


def clean(text: str, most: int = TEXT_MAX) -> str:
    """A text that someone else has written, within its bound and fit to be sent."""
    return text[:most].encode(errors="replace").decode()


def within(rows: Iterable[Row], most_bytes: int) -> tuple[Row, ...]:
    """As many of the first rows as fit into so many bytes of JSON."""
    kept: list[Row] = []
    size = 0
    for row in rows:
        size += len(msgspec.json.encode(row)) + 1
        if size > most_bytes:
            break
        kept.append(row)
    return tuple(kept)
