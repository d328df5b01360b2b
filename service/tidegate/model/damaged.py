"""Reads a message that a strict JSON parser refuses, as far as it goes.

What Python and others write is read as a whole: NaN and Infinity become null, half a surrogate pair
stays the escape that it is, a byte order mark is passed over, bytes that are not UTF-8 become
U+FFFD. Where the text is broken, members are read from its beginning up to the damage, and type and
status also from its end back to the damage; the status of a nested object is never taken for the
operation's. Slow, and only for what the fast path in `entries` has refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

#: So much of the end of a broken text is read backwards.
TAIL_MAX_CHARS = 65_536
NOT_UTF8 = "not UTF-8"
BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\n\r]*")
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*"|-?(?:NaN|Infinity)', re.DOTALL)
# Of the reversed text: a string (a quote in front of an odd number of backslashes belongs to it), a
# bracket, colon or comma, spaces, or anything else in a row. No control character is in any.
_BACKWARDS = re.compile(
    r'"(?:[^"\x00-\x1f]|"(?=\\(?:\\\\)*(?!\\)))*"|[\[\]{}:,]|[ \t\n\r]+|[^\[\]{}:,"\x00-\x20]+'
)


def _no_value(_text: str) -> None:
    """Numbers are never looked at, and a long one is no error."""


_scan = json.JSONDecoder(
    parse_float=_no_value, parse_int=_no_value, parse_constant=_no_value
).raw_decode


class Damaged(NamedTuple):
    """What a message says.

    Attributes:
        type: None when it names none.
        timestamp: a JSON text; None when it has none.
        data: the JSON text of all of it; None when it could not be read as a whole.
        kept: where `data` is None: the JSON texts of those of its members that could be read.
        status: as the data has it.
        reason: what is wrong; None when nothing of the message is lost.
        is_complete: it was read to its end, so what is not told is not there.
    """

    type: str | None
    timestamp: str | None
    data: str | None
    kept: Mapping[str, str]
    status: str | None
    reason: str | None
    is_complete: bool = True


class _Members(NamedTuple):
    """The members of an object up to its end, or up to the damage.

    Attributes:
        values: by key, as Python has them.
        texts: by key, as they are written.
        end: behind the closing bracket; None when that was not reached.
        at: where the damage is.
        open: the key whose value is damaged, and where that begins.
    """

    values: dict[str, Any]
    texts: dict[str, str]
    end: int | None
    at: int = 0
    open: tuple[str, int] | None = None


class _Tail(NamedTuple):
    """The texts found from the end backwards.

    Attributes:
        root: members of the message that are strings.
        data: such members of its `data`; None when that was not reached.
        nameless: those of an object in the message whose key is lost.
        others: those of other objects in it, by key.
    """

    root: Mapping[str, str]
    data: Mapping[str, str] | None
    nameless: Mapping[str, str]
    others: Mapping[str, Mapping[str, str]]


def read_damaged(message: bytes) -> Damaged:
    """Read what can be read; never raises."""
    message = message.removeprefix(BOM)
    try:
        text, reason = message.decode().strip(" \t\n\r"), None
    except UnicodeDecodeError:
        text, reason = message.decode(errors="replace").strip(" \t\n\r"), NOT_UTF8
    if not text.startswith("{"):
        return Damaged(None, None, None, {}, None, "not a JSON object", is_complete=False)
    root = _members(text, 0)
    if root.end is None:
        return _broken(text, root)
    data = root.values.get("data", root.values)
    found = data if isinstance(data, dict) else {}
    type_ = root.values.get("type")
    if root.end != len(text):
        reason = f"text behind the object, at character {root.end}"
        tail = _tail(text)
        if type_ is None and "type" in tail.root:
            # A bracket too many has ended the object too soon.
            found = {**tail.nameless, **tail.root, **root.values, **found}
            type_ = tail.root["type"]
    has_type = type_ is None or isinstance(type_, str)
    # Numbers are read as None.
    if not has_type or root.texts.get("type", "null")[0] not in 'n"':
        has_type, reason = False, "the type is no text"
    return Damaged(
        _text(type_),
        root.texts.get("timestamp"),
        root.texts["data"] if "data" in root.texts else _strict(text[: root.end]),
        {},
        _text(found.get("status")),
        reason,
        is_complete=has_type,
    )


def split_array(body: bytes) -> list[bytes]:
    """The texts of an array's elements.

    Raises:
        ValueError: it cannot be read to its end.
    """
    text = body.decode()
    elements: list[bytes] = []
    at = _spaces(text, 1)
    if text.startswith("]", at) and _spaces(text, at + 1) == len(text):
        return elements
    while True:
        try:
            _, end = _scan(text, at)
        except (ValueError, RecursionError):
            raise ValueError(f"damaged at character {at}") from None
        elements.append(text[at:end].encode())
        at = _spaces(text, end)
        if text.startswith("]", at) and _spaces(text, at + 1) == len(text):
            return elements
        if not text.startswith(",", at):
            raise ValueError(f"damaged at character {at}")
        at = _spaces(text, at + 1)


def _broken(text: str, root: _Members) -> Damaged:
    """The damage is somewhere inside: from the beginning up to it, else from the end back to it."""
    inner: _Members | None = None
    at, data = root.at, root.values.get("data")
    if root.open is not None and root.open[0] == "data" and text.startswith("{", root.open[1]):
        inner = _members(text, root.open[1])
        at = inner.at
    # Where it is only cut off, its end is somewhere in the middle of it.
    tail = _Tail({}, None, {}, {}) if at >= len(text) else _tail(text)
    kept: Mapping[str, str] = {}
    if inner is not None:
        # A bracket too many makes the rest of `data` look like the value that is damaged.
        same = tail.others.get(inner.open[0], {}) if inner.open is not None else {}
        found = {**same, **tail.nameless, **(tail.data or {}), **inner.values}
        kept = inner.texts
    elif "data" in root.values:
        # Perhaps a bracket too many has ended it too soon.
        lost = {**tail.nameless, **tail.root} if root.open is None else {}
        found = {**lost, **(data if isinstance(data, dict) else {})}
    elif tail.data is not None:
        found = dict(tail.data)
    else:
        # It is not known whether there is a `data`; without one the message is the data.
        found = {**(tail.nameless if root.open is None else {}), **tail.root, **root.values}
        kept = {k: v for k, v in root.texts.items() if k not in ("type", "timestamp")}
    return Damaged(
        _text(root.values.get("type", tail.root.get("type"))),
        root.texts.get("timestamp"),
        root.texts.get("data"),
        kept,
        _text(found.get("status")),
        f"damaged at character {at}",
        is_complete=False,
    )


def _members(text: str, at: int) -> _Members:
    """Of the object that begins at `at`."""
    values: dict[str, Any] = {}
    texts: dict[str, str] = {}
    at = _spaces(text, at + 1)
    if text.startswith("}", at):
        return _Members(values, texts, at + 1)
    while text.startswith('"', at):
        try:
            key, at = _scan(text, at)
        except ValueError:
            break
        at = _spaces(text, at)
        if not text.startswith(":", at):
            break
        start = at = _spaces(text, at + 1)
        try:
            value, at = _scan(text, start)
        except json.JSONDecodeError as error:
            # A string without an end is told by its beginning.
            at = len(text) if error.msg.startswith("Unterminated") else error.pos
            return _Members(values, texts, None, at, (key, start))
        except RecursionError:
            return _Members(values, texts, None, start, (key, start))
        values[key], texts[key] = value, _strict(text[start:at])
        at = _spaces(text, at)
        if text.startswith("}", at):
            return _Members(values, texts, at + 1)
        if not text.startswith(",", at):
            break
        at = _spaces(text, at + 1)
    return _Members(values, texts, None, at)


def _tail(text: str) -> _Tail:
    """From the end backwards, as long as it makes sense there."""
    root: dict[str, str] = {}
    data: dict[str, str] | None = None
    here: dict[str, str] = {}
    lost: dict[str, str] = {}
    others: dict[str, dict[str, str]] = {}
    depth = 0
    #: Of the innermost members, read backwards: value, colon, key.
    recent: list[str] = []
    reverse = text[: -TAIL_MAX_CHARS - 1 : -1]
    at = 0
    while (match := _BACKWARDS.match(reverse, at)) is not None:
        part, at = match[0][::-1], match.end()
        if part in "]}":
            if depth == 0 and part != "}":
                break
            depth += 1
            if depth == 2:
                lost, here = {**here, **lost}, {}
            if depth <= 2:
                recent = []
            continue
        if part.isspace():
            continue
        if part in "[{":
            depth -= 1
            if depth <= 0:
                break
            if depth <= 2:
                recent = [part]
            continue
        if depth == 0:
            break
        if depth > 2:
            continue
        if part == ",":
            recent = []
            continue
        recent.append(part)
        if len(recent) == 3:
            value, colon, key = recent
            if colon != ":" or not key.startswith('"'):
                break
            try:
                name = json.loads(key)
                if value.startswith('"'):
                    (here if depth == 2 else root).setdefault(name, json.loads(value))
            except ValueError:
                break
            if value == "{" and depth == 1:
                if name == "data" and data is None:
                    data = here
                else:
                    others.setdefault(name, here)
                here = {}
        elif len(recent) > 3:
            break
    return _Tail(root, data, {**here, **lost}, others)


def _spaces(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _strict(text: str) -> str:
    """A JSON text as Python reads it, in the form that a browser reads."""
    if "NaN" not in text and "Infinity" not in text:
        return text
    return _CONSTANT.sub(lambda found: found[0] if found[0][0] == '"' else "null", text)


def _text(value: object) -> str | None:
    """A text that can be encoded: half a surrogate pair becomes U+FFFD."""
    if not isinstance(value, str):
        return None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
