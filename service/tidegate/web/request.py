"""The request of a viewer: its head, and what it asks for, from path, query or message, checked
before it is used. `history=all` is limited as well; the first frame says how much of the history is
sent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import parse_qs

from tidegate.core.records import Ask
from tidegate.model.errors import InvalidRequest
from tidegate.model.ids import OperationId, parse_operation_id, parse_stream_id
from tidegate.model.settings import ViewerSettings

#: Room for a token of 8 KiB, where `auth.token_in_query` allows one.
QUERY_MAX_BYTES = 12_288
#: In the query of a socket that answers an `ack_request`.
OFFERS_ACKS = b"acks=1"


class RequestHead(NamedTuple):
    """What the request said."""

    path: str
    query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    subprotocols: Sequence[str]


def read_ask(operation: str, query: bytes, settings: ViewerSettings) -> tuple[OperationId, Ask]:
    """The operation from the path; read `?last_event_id=`, `?history=N|all|none`, `?acks=0|1`.

    Raises:
        InvalidInput: and which field it is.
    """
    parsed = parse_operation_id(operation)
    if not query:
        return parsed, Ask(None, settings.history_entries)
    if len(query) > QUERY_MAX_BYTES:
        raise InvalidRequest("query", f"must be at most {QUERY_MAX_BYTES} bytes")
    try:
        values = parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise InvalidRequest("query", "must be ASCII, with at most 16 fields") from None
    after = values.get("last_event_id", [""])[-1]
    ask = make_ask(after, values.get("history", [""])[-1], settings)
    acks = values.get("acks", ["0"])[-1]
    if acks not in ("0", "1"):
        raise InvalidRequest("acks", "must be 1, or 0 as without it")
    return parsed, ask._replace(acks=acks == "1")


def make_ask(last_event_id: str, history: str, settings: ViewerSettings) -> Ask:
    """From the two texts; an empty one was not given.

    Raises:
        InvalidInput: and which field it is.
    """
    position = parse_stream_id(last_event_id) if last_event_id else None
    return Ask(position, _history(history, settings))


def _history(text: str, settings: ViewerSettings) -> int:
    if not text:
        return settings.history_entries
    if text == "all":
        return settings.history_max_entries
    if text == "none":
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidRequest("history", "must be a number, `all` or `none`")
    if int(text) > settings.history_max_entries:
        raise InvalidRequest("history", f"must be at most {settings.history_max_entries}, or `all`")
    return int(text)
