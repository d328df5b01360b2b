"""JSON Schemas of everything that is sent on a viewer's socket, and the AsyncAPI description of it.

They cover the frames that `model.frames` creates, and the messages that a socket accepts.
Positions, entries and ids are those of the OpenAPI description (`schemas`), close codes those of
their table. Tests validate every frame of a real gateway against these schemas.
"""

from __future__ import annotations

from typing import Any

from tidegate.model.close_codes import CLOSE_CODES
from tidegate.model.frames import GapReason
from tidegate.web.schemas import (
    A_POSITION,
    EVENT,
    HISTORY,
    OPERATION_ID,
    POSITION,
    VIEWER_SCHEME,
)

ASYNCAPI_VERSION = "3.0.0"
SUBPROTOCOL = "tidegate.v1"
Schema = dict[str, Any]

_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}


def _frame(type_: str, text: str, *, needs: tuple[str, ...] = (), **properties: Schema) -> Schema:
    """Of a frame or a message of this type; `needs` beside the type."""
    return {
        "type": "object",
        "description": text,
        "required": ["type", *needs],
        "properties": {"type": {"const": type_}, **properties},
    }


def _data(*needs: str, more: bool = False, **properties: Schema) -> Schema:
    """The `data` of a frame; with `more`, other fields as well."""
    found = {"type": "object", "required": list(needs), "properties": properties}
    return found if more else {**found, "additionalProperties": False}


_ID: Schema = {"operation": {**OPERATION_ID, "description": "The operation that it is about."}}

#: What the gateway sends, by name.
FRAMES: dict[str, Schema] = {
    "entry": {**EVENT, "description": "An entry, as a backend wrote it; it may have any type."},
    "unstored_entry": {
        **EVENT,
        "description": "An entry that is not stored, because Redis was unavailable and its "
        "publisher allowed that. It has no id, so viewers cannot resume from it.",
        "required": [name for name in EVENT["required"] if name != "id"],
        "not": {"required": ["id"]},
    },
    "current_state": _frame(
        "current_state",
        "The first frame of an operation: its state up to the entry `at`; `cursor` is a position "
        "to resume from.",
        needs=("operation", "cursor", "data", "history"),
        **_ID,
        cursor=A_POSITION,
        at=A_POSITION,
        data=_data("status", more=True, status={"description": "The last status, or `unknown`."}),
        history=_data("sent", "available", sent={"type": ["integer", "null"]}, available=_COUNT),
    ),
    "gap": _frame(
        "gap",
        "Continuity between two positions cannot be guaranteed.",
        needs=("operation", "data"),
        **_ID,
        data=_data(
            *("after", "reason"),
            after=A_POSITION,
            before=A_POSITION,
            reason={"enum": [reason.value for reason in GapReason]},
        ),
    ),
    "skipped": _frame(
        "skipped",
        "This many superseded entries were skipped, because the viewer reads too slowly.",
        needs=("operation", "data"),
        **_ID,
        data=_data("count", count={**_COUNT, "minimum": 1}),
    ),
    "stale": _frame(
        "stale",
        "Redis is unavailable; the connection stays open and no entries are lost.",
        needs=("operation", "data"),
        **_ID,
        data=_data("since", since={"type": "string", "format": "date-time"}),
    ),
    "live": _frame("live", "Redis is available again.", needs=("operation",), **_ID),
    "reconnect": _frame(
        "reconnect",
        "The connection is about to be closed; reconnect after the delay.",
        needs=("data",),
        data=_data("after_ms", "reason", after_ms=_COUNT, reason=_TEXT),
    ),
    "error": _frame(
        "error",
        "Why a connection, a subscription or a message was refused.",
        needs=("data",),
        **_ID,
        data=_data(
            *("code", "message", "retry"),
            more=True,
            code=_TEXT,
            message=_TEXT,
            retry={"type": "boolean"},
        ),
    ),
    "ack_request": _frame(
        "ack_request",
        "Asks a viewer that supports it to send `ack` when it has displayed the entry.",
        needs=("operation", "data"),
        **_ID,
        data=_data("id", id=A_POSITION),
    ),
    "expiring": _frame(
        "expiring",
        "The token of the connection expires in this many seconds; send `refresh`.",
        needs=("data",),
        data=_data("in_s", in_s={"type": "number"}),
    ),
    "refreshed": _frame("refreshed", "The new token of the connection is in use."),
    "pong": _frame("pong", "The answer to `ping`."),
    "cancelling": _frame(
        "cancelling",
        "The answer to `cancel`: the entry that asks for it, and whether it was there already.",
        needs=("operation", "data"),
        **_ID,
        data=_data("id", "repeated", id=A_POSITION, repeated={"type": "boolean"}),
    ),
}
#: Only where there are several operations on one socket.
_ONLY_MANY: dict[str, Schema] = {
    "unwatched": _frame(
        "unwatched",
        "The last frame of an operation on this socket, and why.",
        needs=("operation", "data"),
        **_ID,
        data=_data("code", "name", code={"type": "integer"}, name=_TEXT),
    ),
}
#: What a viewer may send, by name.
MESSAGES: dict[str, Schema] = {
    "ping": _frame("ping", "Answered with `pong`."),
    "ack": _frame(
        "ack",
        "The viewer has displayed this entry. `operation` is required on a socket with several.",
        needs=("id",),
        **_ID,
        id=POSITION,
    ),
    "refresh": _frame(
        "refresh",
        "Replaces the token by a new one of the same user.",
        needs=("token",),
        token=_TEXT,
    ),
    "cancel": _frame(
        "cancel",
        "Ask to cancel an operation. `operation` may be omitted on a socket for one operation.",
        operation={"type": ["string", "null"]},
    ),
}
_MANY_MESSAGES: dict[str, Schema] = {
    "watch": _frame(
        "watch",
        "Subscribe to an operation.",
        needs=("operation",),
        **_ID,
        last_event_id={**POSITION, "type": ["string", "null"]},
        history={"anyOf": [HISTORY, {"type": ["integer", "null"], "minimum": 0}]},
        acks={"type": "boolean", "default": False},
    ),
    "unwatch": _frame("unwatch", "End a subscription.", needs=("operation",), **_ID),
}
ALL_FRAMES = {**FRAMES, **_ONLY_MANY}
ALL_MESSAGES = {**MESSAGES, **_MANY_MESSAGES}

_QUERY: Schema = {
    "type": "object",
    "properties": {
        "last_event_id": {**POSITION, "description": "Resume after this position"},
        "history": {
            **HISTORY,
            "description": "History to send if there is no position to resume from",
        },
        "acks": {"enum": ["1"], "description": "This viewer answers `ack_request`"},
    },
}


def asyncapi(version: str, *, needs_token: bool) -> dict[str, Any]:
    """The description of both sockets, as AsyncAPI 3.0.

    Args:
        version: of the gateway.
        needs_token: `server.auth` is jwt.
    """
    channels = {
        "operation": _channel(
            "/ws/operations/{operation_id}", "One operation", FRAMES, MESSAGES, _QUERY
        )
        | {"parameters": {"operation_id": {"description": "The operation", "examples": ["42"]}}},
        "operations": _channel("/ws", "Many operations on one socket", ALL_FRAMES, ALL_MESSAGES),
    }
    components: dict[str, Any] = {
        "messages": {
            name: {
                "name": name,
                "contentType": "application/json",
                "summary": schema["description"],
                "payload": {"$ref": f"#/components/schemas/{name}"},
            }
            for name, schema in (ALL_FRAMES | ALL_MESSAGES).items()
        },
        "schemas": ALL_FRAMES | ALL_MESSAGES,
    }
    operations = {}
    for channel, frames, messages in (
        ("operation", FRAMES, MESSAGES),
        ("operations", ALL_FRAMES, ALL_MESSAGES),
    ):
        operations[f"{channel}_frames"] = _operation("send", channel, frames)
        operations[f"{channel}_messages"] = _operation("receive", channel, messages)
    if needs_token:
        components["securitySchemes"] = VIEWER_SCHEME
        for operation in operations.values():
            operation["security"] = [{"$ref": "#/components/securitySchemes/viewer"}]
    return {
        "asyncapi": ASYNCAPI_VERSION,
        "info": {
            "title": "Tidegate: sockets of viewers",
            "version": version,
            "description": "Frames and messages are text, one JSON object each. The sub-protocol "
            f"is `{SUBPROTOCOL}`. `send` is what the gateway sends.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": components,
        "x-close-codes": [
            {"code": r.code, "name": r.name, "meaning": r.meaning, "reconnect": r.come_back.value}
            for r in CLOSE_CODES.values()
        ],
    }


def _channel(
    address: str,
    title: str,
    frames: dict[str, Schema],
    messages: dict[str, Schema],
    query: Schema | None = None,
) -> dict[str, Any]:
    names = (*frames, *messages)
    return {
        "address": address,
        "title": title,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {"ws": {"method": "GET"} | ({} if query is None else {"query": query})},
    }


def _operation(action: str, channel: str, names: dict[str, Schema]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in names],
    }
