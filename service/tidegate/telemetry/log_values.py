"""Cleans the values of log lines: no secrets, no control sequences of terminals, no unlimited
texts.

It is a second line of defence: no code logs tokens or payloads on purpose, but an error text or a
message of a library may quote what a viewer sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from structlog.typing import EventDict, WrappedLogger

LONGEST = 2_000
#: A traceback is long by nature; its end says what went wrong.
LONGEST_TRACEBACK = 20_000
MOST_VALUES = 50
HIDDEN = "***"

_SECRET_NAMES = re.compile(
    r"token|secret|passw(or)?d|authorization|cookie|api[-_]?key|credential", re.IGNORECASE
)
# Each may begin only where its first part begins, so that no text makes them try quadratically.
_SECRETS = re.compile(
    r"""(
        (?<!\w)(?:access_token\.|bearer\s+|basic\s+) |                   # headers, sub-protocols
        (?<![a-z_-])[a-z_-]*(?:token|password|secret|key)["']?\s*[=:]\s*["']?  # queries, dumps
    )[^\s&"',;)}\]]+""",
    re.IGNORECASE | re.VERBOSE,
)
#: Base64url of a JSON object, a dot, and more: a JWT wherever it stands.
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{5,}\.[\w-]{5,}\.[\w-]*")
_LOGIN = re.compile(r"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)[^\s/@]*@", re.IGNORECASE)
#: C0 and C1 controls, line and paragraph separators, what turns the direction of writing, and
#: halves of characters, which cannot be written at all.
_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def redact(text: str) -> str:
    """`text` without what looks like a token, a password or a login."""
    text = _JWT.sub(HIDDEN, text)
    text = _SECRETS.sub(rf"\1{HIDDEN}", text)
    return _LOGIN.sub(rf"\1{HIDDEN}@", text)


def printable(text: str, *, keep: str = "") -> str:
    """`text` on one line, with everything that a terminal obeys written out; `keep` may stay."""
    return _CONTROL.sub(
        lambda found: found[0] if found[0] in keep else found[0].encode("unicode_escape").decode(),
        text,
    )


def clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor: every value of the line, whoever wrote it."""
    for name, value in tuple(event.items()):
        if name.startswith("_") or name == "exc_info":
            continue
        if name == "exception":
            event[name] = redact(_last(str(value), LONGEST_TRACEBACK))
        elif _SECRET_NAMES.search(name):
            event[name] = HIDDEN
        else:
            event[name] = _clean(value)
    return event


def one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A processor for output that is read on a terminal; JSON escapes by itself."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n" if name == "exception" else "")
        elif isinstance(value, list | dict):
            event[name] = printable(repr(value))
    return event


def _clean(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {
            printable(str(k))[:LONGEST]: HIDDEN if _SECRET_NAMES.search(str(k)) else _clean(v)
            for k, v in list(value.items())[:MOST_VALUES]
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(each) for each in list(value)[:MOST_VALUES]]
    return redact(_first(value if isinstance(value, str) else str(value), LONGEST))


def _first(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}... {len(text) - most} characters more"


def _last(text: str, most: int) -> str:
    return text if len(text) <= most else f"{len(text) - most} characters ...\n{text[-most:]}"
