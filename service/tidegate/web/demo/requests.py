"""What the page and the demo backend have agreed on: two ordinary operations, and their entries.

New operations are announced on ``INDEX``. On ``REQUESTS`` a replica appends what someone wants to
see; the backend starts it, and does not believe a word more than ``read_request`` lets through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

import msgspec

from tidegate.model.ids import OperationId

INDEX = OperationId("demo")
REQUESTS = OperationId("demo-requests")
#: Work in stages, a text that grows, a count of rows, or work that ends in an error.
Kind = Literal["stages", "text", "rows", "failure"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SHORTEST_S = 3
LONGEST_S = 180


class Wanted(NamedTuple):
    """One operation that someone wants to see."""

    operation: OperationId
    kind: Kind
    seconds: float

    def message(self) -> Mapping[str, Any]:
        """For the entry."""
        return {"type": "operation_requested", "data": self._asdict()}


class _RequestData(msgspec.Struct):
    operation: Annotated[str, msgspec.Meta(pattern=r"^demo-[a-z0-9]{4,32}\Z")]
    kind: Kind
    seconds: Annotated[float, msgspec.Meta(ge=SHORTEST_S, le=LONGEST_S)]


class _RequestMessage(msgspec.Struct):
    type: Literal["operation_requested"]
    data: _RequestData


def read_request(text: str) -> Wanted | None:
    """The ``message`` field of an entry; None when it asks for nothing that there is."""
    try:
        data = msgspec.json.decode(text, type=_RequestMessage).data
    except (ValueError, RecursionError):
        return None
    return Wanted(OperationId(data.operation), data.kind, data.seconds)
