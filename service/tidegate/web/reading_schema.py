"""What the OpenAPI description says of reading: the answers, and the event stream.

The event stream is no route of the framework's (see `sse`), so its whole description is here.
"""

from __future__ import annotations

from typing import Any

_POSITION = {"type": "string", "examples": ["1795413516350-0"]}
_STATUS = {
    "type": "string",
    "description": "The last `data.status` of an entry; `running` when none has set one.",
}
_FINISHED = {"type": "boolean", "description": "The operation has ended."}
_EVENT = {
    "type": "object",
    "required": ["id", "operation", "timestamp", "type", "data"],
    "properties": {
        "id": _POSITION,
        "operation": {"type": "string"},
        "timestamp": {"description": "As it was written."},
        "type": {"type": "string"},
        "data": {"description": "As it was written."},
    },
}
_GAP = {
    "type": ["object", "null"],
    "description": "Continuity is not proven in front of the first event.",
    "required": ["after", "reason"],
    "properties": {
        "after": _POSITION,
        "before": _POSITION,
        "reason": {"enum": ["trimmed", "recreated", "rewound", "unknown_cursor"]},
    },
}
_STATE = {
    "type": "object",
    "required": ["operation", "status", "finished", "cursor"],
    "properties": {
        "operation": {"type": "string"},
        "status": _STATUS,
        "finished": _FINISHED,
        "cursor": _POSITION,
        "data": {"type": "object", "description": "What the operation source knows."},
    },
}
_PAGE = {
    "type": "object",
    "required": ["operation", "events", "cursor", "more", "gap", "status", "finished"],
    "properties": {
        "operation": {"type": "string"},
        "events": {"type": "array", "items": _EVENT},
        "cursor": _POSITION,
        "more": {"type": "boolean", "description": "There are events behind `cursor` already."},
        "gap": _GAP,
        "status": _STATUS,
        "finished": _FINISHED,
    },
}


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {}}}


def _refusals(not_found: str) -> dict[int | str, dict[str, Any]]:
    return {
        400: _problem("The id or the query cannot be understood"),
        401: _problem("The token is missing or bad"),
        403: _problem("This operation may not be watched"),
        404: _problem(not_found),
        410: _problem("The operation's stream has expired"),
        429: _problem("Too many connections of this user"),
        503: _problem("Cannot be served now; `Retry-After` says when to come back"),
        # With it the framework does not claim to answer 422 in its own format.
        "default": _problem("Anything else that is refused"),
    }


STATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The state",
        "headers": {"ETag": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": _STATE}},
    },
    304: {"description": "Nothing has changed"},
    **_refusals("There is no stream of this operation"),
}
PAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page", "content": {"application/json": {"schema": _PAGE}}},
    **_refusals("There is no stream of this operation, and none began while waiting"),
}


def _parameter(name: str, place: str, text: str, **more: Any) -> dict[str, Any]:
    schema = {"type": "string"}
    return {"name": name, "in": place, "description": text, "schema": schema, **more}


EVENT_STREAM_PATH = "/sse/operations/{operation_id}"
EVENT_STREAM: dict[str, Any] = {
    "get": {
        "tags": ["watching"],
        "summary": "Watch an operation as server-sent events",
        "operationId": "event_stream",
        "parameters": [
            _parameter("operation_id", "path", "The operation", required=True),
            _parameter("last_event_id", "query", "Resume behind this position"),
            _parameter("history", "query", "A number, `all` or `none`, without a position"),
            _parameter("Last-Event-ID", "header", "Goes before `last_event_id`"),
        ],
        "responses": {
            "200": {
                "description": "The frames of the protocol, one per event",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            "204": {"description": "The operation has ended and everything was seen"},
            **{str(status): row for status, row in _refusals("The key is no stream").items()},
        },
    }
}
