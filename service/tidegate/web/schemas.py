"""The OpenAPI description of reading, of event streams, and of publishing.

It only describes: input is validated where it is read. The event stream is not a route of the
framework (see `sse.endpoint`), so its complete description is here.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path

from tidegate.model.entries import MALFORMED_TYPE
from tidegate.model.ids import OPERATION_ID_MAX_LENGTH, OPERATION_ID_PATTERN
from tidegate.model.state_data import RESULT_MAX_BYTES


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {}}}


# -- an operation, and a position ------------------------------------------------------------------

#: Checked by `parse_operation_id`, for every way in alike; here it is described only.
OPERATION_ID: dict[str, Any] = {
    "type": "string",
    "minLength": 1,
    "maxLength": OPERATION_ID_MAX_LENGTH,
    "pattern": f"^{OPERATION_ID_PATTERN}$",
    "examples": ["42"],
}
OperationPath = Annotated[str, Path(json_schema_extra=OPERATION_ID)]
#: Two numbers of 64 bits; ids that a server makes of its clock have 13 digits in front.
POSITION: dict[str, Any] = {
    "type": "string",
    "pattern": "^([0-9]{1,19}(-[0-9]{1,19})?)?$",
    "examples": ["1795413516350-0"],
}
A_POSITION = {"type": "string", "examples": ["1795413516350-0"]}

# -- state and pages -------------------------------------------------------------------------------

_STATUS = {
    "type": "string",
    "description": "The last `data.status` of an entry; `running` when none has set one.",
}
_FINISHED = {"type": "boolean", "description": "The operation has ended."}
EVENT = {
    "type": "object",
    "required": ["id", "operation", "timestamp", "type", "data"],
    "properties": {
        "id": A_POSITION,
        "operation": {"type": "string"},
        "timestamp": {"description": "As the publisher wrote it."},
        "type": {"type": "string"},
        "fold": {
            "enum": ["append", "merge", "replace"],
            "description": "How the entry changes the state, if its type does not determine that.",
        },
        "data": {"description": "As the publisher wrote it."},
        "joined": {
            "type": "integer",
            "minimum": 2,
            "description": "Number of consecutive events in this one; `data.text` is that of all.",
        },
    },
}
GAP = {
    "type": ["object", "null"],
    "description": "Continuity before the first event is not proven.",
    "required": ["after", "reason"],
    "properties": {
        "after": A_POSITION,
        "before": A_POSITION,
        "reason": {"enum": ["trimmed", "recreated", "rewound", "unknown_cursor"]},
    },
}
_STATE = {
    "type": "object",
    "required": ["operation", "status", "finished", "cursor", "data"],
    "properties": {
        "operation": {"type": "string"},
        "status": _STATUS,
        "finished": _FINISHED,
        "cursor": A_POSITION,
        "data": {
            "type": "object",
            "description": "The state, merged into what the operation source provides; "
            "unknown fields are omitted.",
            "required": ["status"],
            "properties": {
                "status": {"type": "string"},
                "progress": {"type": "number", "minimum": 0, "maximum": 1},
                **{name: {"type": "number"} for name in ("current", "total")},
                **{
                    name: {"type": "string"}
                    for name in ("unit", "title", "message", "error", "text")
                },
                "result": {"description": f"At most {RESULT_MAX_BYTES} bytes of JSON."},
                "result_omitted": {"const": True, "description": "It is larger."},
                "merged": {"type": "object"},
                **{
                    name: {"type": "integer", "description": "Unix time in milliseconds."}
                    for name in ("started_ms", "updated_ms", "ended_ms", "estimated_end_ms")
                },
                "partial": {"const": True, "description": "Entries or parts are missing."},
                "in_percent": {
                    "const": True,
                    "description": "The figures of the operation are percentages.",
                },
            },
        },
    },
}
_PAGE = {
    "type": "object",
    "required": ["operation", "events", "cursor", "more", "gap", "status", "finished"],
    "properties": {
        "operation": {"type": "string"},
        "events": {"type": "array", "items": EVENT},
        "cursor": A_POSITION,
        "more": {"type": "boolean", "description": "There are more events after `cursor`."},
        "gap": GAP,
        "status": _STATUS,
        "finished": _FINISHED,
    },
}


def _refusals(not_found: str) -> dict[int | str, dict[str, Any]]:
    return {
        400: _problem("The id or the query is invalid"),
        401: _problem("The token is missing or invalid"),
        403: _problem("The user may not watch this operation"),
        404: _problem(not_found),
        410: _problem("The operation's stream has expired"),
        429: _problem("Too many connections of this user"),
        503: _problem("Temporarily unavailable; `Retry-After` says when to retry"),
        # With it the framework does not claim to answer 422 in its own format.
        "default": _problem("Any other refusal"),
    }


STATE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The state",
        "headers": {"ETag": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": _STATE}},
    },
    304: {"description": "Nothing has changed"},
    **_refusals("There is no stream of this operation (`no_stream`), or no such operation"),
}
PAGE_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "A page", "content": {"application/json": {"schema": _PAGE}}},
    **_refusals(
        "There is no stream of this operation, and none began while waiting (`no_stream`); "
        "or no such operation (`not_found`)"
    ),
}

_OFFSETS = {
    name: {"description": text, "schema": {"type": "string"}}
    for name, text in (
        ("Stream-Next-Offset", "The offset at which to continue reading."),
        ("Stream-Up-To-Date", "`true`: there is nothing more at this moment."),
        ("Stream-Closed", "`true`: the operation has ended, and nothing follows."),
        ("Stream-Cursor", "For live reads: the value of `cursor` for the next request."),
    )
}
STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Messages, each the frame of an entry; with `live=sse` as events `data` and "
        "`control`",
        "headers": {"ETag": {"schema": {"type": "string"}}, **_OFFSETS},
        "content": {
            "application/json": {"schema": {"type": "array", "items": EVENT}},
            "text/event-stream": {},
        },
    },
    204: {"description": "No event arrived while waiting", "headers": _OFFSETS},
    304: {"description": "Nothing has changed"},
    **_refusals("There is no stream of this operation"),
    410: _problem("Entries after this offset may be missing, or the stream has expired"),
}
#: Of each half: 64 bits.
_HALF = "(0[0-9]{19}|1[0-7][0-9]{18})"
#: OpenAPI has no words for a parameter that needs another one: `live` is told of in the text.
STREAM_PARAMETERS: list[dict[str, Any]] = [
    {
        "name": "offset",
        "in": "query",
        "description": "A `Stream-Next-Offset`; `-1`: the beginning, `now`: the end.",
        "schema": {"type": "string", "pattern": f"^(-1|now|{_HALF}_{_HALF})$"},
    },
]

#: Where `server.auth` is jwt, what a viewer asks needs this.
VIEWER_SCHEME = {
    "viewer": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A viewer's token; the settings may also allow a cookie or the query",
    }
}
NEEDS_VIEWER: dict[str, Any] = {"security": [{"viewer": []}]}

# -- the event stream ------------------------------------------------------------------------------

_EVENT_STREAM_EVENT = {
    "type": "object",
    "description": "One event (HTML standard, section 9.2).",
    "required": ["data"],
    "properties": {
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object", "required": ["type"]},
        },
        "id": POSITION,
        "event": {"enum": ["message", "end"]},
        "retry": {"type": "integer"},
    },
}
HISTORY = {
    "type": "string",
    "description": "Number of entries (at most `viewer.history_max_entries`), `all` or `none`",
    "pattern": "^([0-9]{1,3}|all|none)?$",
}


def _parameter(
    name: str, place: str, text: str, schema: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {"name": name, "in": place, "description": text, "schema": schema, **more}


EVENT_STREAM_PATH = "/sse/operations/{operation_id}"
EVENT_STREAM: dict[str, Any] = {
    "get": {
        "tags": ["watching"],
        "summary": "Watch an operation as server-sent events",
        "operationId": "event_stream",
        "parameters": [
            _parameter("operation_id", "path", "The operation", OPERATION_ID, required=True),
            _parameter("last_event_id", "query", "Resume after this position", POSITION),
            _parameter(
                "history",
                "query",
                "History to send if there is no position to resume from",
                HISTORY,
            ),
            _parameter(
                "Last-Event-ID", "header", "Takes precedence over `last_event_id`", POSITION
            ),
        ],
        "responses": {
            "200": {
                "description": "The frames of the protocol, one per event",
                "content": {"text/event-stream": {"schema": _EVENT_STREAM_EVENT}},
            },
            "204": {
                "description": "The operation has ended, and the client has received everything"
            },
            **{
                str(status): row
                for status, row in _refusals("The key does not hold a stream").items()
            },
        },
    }
}

# -- feeds -----------------------------------------------------------------------------------------

_LISTED = {
    "type": "object",
    "required": ["operation", "title", "listed", "status", "finished"],
    "properties": {
        "operation": {"type": "string"},
        "title": {"type": "string"},
        "listed": {**A_POSITION, "description": "The entry of the feed."},
        "status": {"type": ["string", "null"], "description": "`null` if it is not available."},
        "finished": {"type": ["boolean", "null"]},
        "cursor": A_POSITION,
        "data": {"type": "object"},
        "code": {"type": "string", "description": "Why the state is not available."},
    },
}
FEED_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The operations, newest first",
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["feed", "operations"],
                    "properties": {
                        "feed": {"type": "string"},
                        "operations": {"type": "array", "items": _LISTED},
                    },
                }
            }
        },
    },
    **_refusals("There is no stream of this feed"),
}

# -- cancelling ------------------------------------------------------------------------------------

_CANCELLING = {
    "type": "object",
    "required": ["operation", "status", "id", "repeated"],
    "properties": {
        "operation": {"type": "string"},
        "status": {"const": "cancelling"},
        "id": {**A_POSITION, "description": "The id of the entry with the request."},
        "repeated": {
            "type": "boolean",
            "description": "The operation was being cancelled already.",
        },
    },
}
CANCEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    202: {
        "description": "The operation is being cancelled",
        "content": {"application/json": {"schema": _CANCELLING}},
    },
    **_refusals("There is no stream of this operation"),
    403: _problem("The user may not watch, or not cancel, this operation"),
    409: _problem("The operation has ended already"),
    429: _problem("Too many requests of this user"),
}

# -- publishing ------------------------------------------------------------------------------------

_ENTRY = {
    "type": "object",
    "description": "Without `data`, the object itself is the data.",
    "properties": {
        "type": {
            "type": ["string", "null"],
            "default": "update",
            "not": {"const": MALFORMED_TYPE},
        },
        "timestamp": {"description": "Any JSON; without it, the time of the entry's id."},
        "data": {"description": "Any JSON; `data.status` may end the operation."},
    },
}
PUBLISH_BODY: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {
                "type": "string",
                "minLength": 1,
                "maxLength": 255,
                "pattern": "^[!-~]+$",
            },
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"anyOf": [_ENTRY, {"type": "array", "minItems": 1, "items": _ENTRY}]}
            },
            "application/x-ndjson": {"schema": {"type": "string"}},
        },
    },
}
_DONE = {
    "type": "object",
    "required": ["operation", "ids"],
    "properties": {
        "operation": {"type": "string"},
        "ids": {"type": "array", "items": {"type": "string"}},
        "status": {"type": "string"},
        "viewers": {"type": "integer"},
    },
}
PUBLISH_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Done", "content": {"application/json": {"schema": _DONE}}},
    201: {"description": "Written", "content": {"application/json": {"schema": _DONE}}},
    202: {"description": "Not written", "content": {"application/json": {"schema": _DONE}}},
    400: _problem("The id, the body or the key is invalid"),
    401: _problem("Without the service token"),
    403: _problem("Publishing over HTTP is disabled"),
    404: _problem("No such operation"),
    408: _problem("The body did not arrive in time"),
    409: _problem("The key does not hold a stream"),
    413: _problem("The request exceeds a limit, which `detail` names"),
    415: _problem("Neither JSON nor NDJSON"),
    422: _problem("The idempotency key was used for another request"),
    503: _problem(
        "Redis is unavailable; with the code `uncertain` the entries may have been written"
    ),
}
