"""Finds the token of a request: in its headers, its sub-protocols, its query or a cookie.

    Authorization: Bearer <jwt>
    Sec-WebSocket-Protocol: tidegate.v1, access_token.<jwt>    what browsers can send
    ?token=<jwt>                                               only with auth.token_in_query
    Cookie: <auth.cookie>=<jwt>                                only with auth.cookie

It checks length and characters; the verifier checks the token itself. The same token in two places
is one token, different ones are refused, because the order of headers must not decide between them.
A token found only in a cookie was added by the browser, not by the page, and is marked as such
(`is_ambient`).

Invariant: a `Token` shows its text only through `.text`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl

from tidegate.model.settings import AuthSettings
from tidegate.web.problem import Unauthenticated

TOKEN_MAX_BYTES = 8192
SUBPROTOCOL_PREFIX = "access_token."
QUERY_FIELD = "token"

Headers = Iterable[tuple[bytes, bytes]]

# RFC 6750 section 2.1, b64token; what else a JWT may hold is checked later.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_QUERY_FIELDS_MAX = 64


class Token:
    """A token as it was sent. Hidden from `repr`, `str`, format and pickle.

    Attributes:
        is_ambient: it came in a cookie only, which browsers add to requests of every page.
    """

    __slots__ = ("is_ambient", "text")

    def __init__(self, text: str, *, is_ambient: bool = False) -> None:
        self.text = text
        self.is_ambient = is_ambient

    def __repr__(self) -> str:
        return "Token(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __reduce__(self) -> str:
        raise TypeError("the request contains no token")

    def says_the_same(self, other: Token) -> bool:
        """Whether both have the same claims; a new signature alone says nothing new."""
        return self.text.split(".")[1:2] == other.text.split(".")[1:2]

    def fingerprint(self) -> bytes:
        """128 bits that stand for this token in a cache's key."""
        return hashlib.sha256(self.text.encode()).digest()[:16]


def parse_token(text: str, *, is_ambient: bool = False) -> Token:
    """A token from outside, by length and characters only.

    Raises:
        Unauthenticated: it cannot be one.
    """
    if len(text) > TOKEN_MAX_BYTES:
        raise Unauthenticated(
            "token_too_long", f"a token may have at most {TOKEN_MAX_BYTES} characters"
        )
    if _TOKEN.fullmatch(text) is None:
        raise Unauthenticated("bad_token", "malformed token")
    return Token(text, is_ambient=is_ambient)


def find_token(
    headers: Headers, subprotocols: Sequence[str], query: bytes, settings: AuthSettings
) -> Token | None:
    """The request's token; None when there is none.

    Raises:
        Unauthenticated: there are several different ones, or something that cannot be one.
    """
    found: set[str] = set()
    ambient: set[str] = set()
    for name, value in headers:
        if name == b"authorization":
            found.update(_bearer(value))
        elif name == b"cookie" and settings.cookie is not None:
            ambient.update(_cookies(value, settings.cookie))
    found.update(
        word[len(SUBPROTOCOL_PREFIX) :]
        for word in subprotocols
        if word.startswith(SUBPROTOCOL_PREFIX)
    )
    in_query = _in_query(query)
    if settings.token_in_query:
        found.update(in_query)
    elif in_query and not (found or ambient):
        raise Unauthenticated(
            "token_in_query", "?token= is disabled (auth.token_in_query); send a header"
        )
    tokens = {parse_token(text, is_ambient=text not in found) for text in found | ambient}
    if not tokens:
        return None
    if len(tokens) > 1:
        raise Unauthenticated("several_tokens", "the request has several different tokens")
    return tokens.pop()


def _bearer(value: bytes) -> list[str]:
    scheme, _, rest = value.decode("latin-1").strip(" \t").partition(" ")
    # Another scheme may be a proxy's own login.
    return [rest.strip(" \t")] if scheme.lower() == "bearer" else []


def _cookies(value: bytes, wanted: str) -> list[str]:
    pairs = (pair.strip(" \t").partition("=") for pair in value.decode("latin-1").split(";"))
    return [text.strip('"') for name, _, text in pairs if name == wanted and text]


def _in_query(query: bytes) -> list[str]:
    if QUERY_FIELD.encode() not in query and b"%" not in query:  # the usual case
        return []
    try:
        fields = parse_qsl(query.decode("ascii"), max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError:
        return []  # the query is refused as a whole where it is read
    return [value for name, value in fields if name == QUERY_FIELD]
