"""What the OpenAPI description says of publishing: the body and the answers."""

from __future__ import annotations

from typing import Any

from tidegate.model.entries import MALFORMED_TYPE

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
BODY: dict[str, Any] = {
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


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {}}}


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
RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "Done", "content": {"application/json": {"schema": _DONE}}},
    201: {"description": "Written", "content": {"application/json": {"schema": _DONE}}},
    202: {"description": "Not written", "content": {"application/json": {"schema": _DONE}}},
    400: _problem("The id, the body or the key cannot be used"),
    401: _problem("Without the service token"),
    403: _problem("Publishing over HTTP is off"),
    404: _problem("No such operation"),
    408: _problem("The body did not arrive in time"),
    409: _problem("The key holds no stream"),
    413: _problem("Larger than a bound, which is named"),
    415: _problem("Neither JSON nor NDJSON"),
    422: _problem("The idempotency key was used for something else"),
    503: _problem("Redis is away; with `code` `uncertain` it may have been written"),
}
