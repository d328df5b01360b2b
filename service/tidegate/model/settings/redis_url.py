"""A Redis address that never shows its password.

Invariant: what ``redact_url`` returns holds no password, whatever was put in.
"""

from __future__ import annotations

import re

from pydantic import Secret

REDIS_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)


_SECRET_IN_QUERY = re.compile(r"(?P<key>[?&][a-z_]*password=)[^&#]*", re.IGNORECASE)


def redact_url(url: str) -> str:
    """``url`` with every password in it (before the ``@``, in the query) shown as ``***``.

    Takes too much rather than too little: a password with an unescaped ``/`` or ``@`` in it
    makes no valid URL, and must still not be shown. What is no URL at all is hidden altogether.
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return "***"
    login, at, address = rest.rpartition("@")
    if at:
        user, colon, _ = login.partition(":")
        url = f"{scheme}://{user}{':***' if colon else ''}@{address}"
    return _SECRET_IN_QUERY.sub(r"\g<key>***", url)


class RedisUrl(Secret[str]):
    """A Redis address; shown without its password, read with ``get_secret_value()``."""

    def _display(self) -> str:
        return redact_url(self.get_secret_value())


def check_scheme(url: RedisUrl) -> RedisUrl:
    scheme, found, rest = url.get_secret_value().partition("://")
    if not found or scheme not in REDIS_SCHEMES or not rest:
        # The value stays out of the message: a mistyped URL may well hold a password.
        raise ValueError("must start with one of " + ", ".join(f"{s}://" for s in REDIS_SCHEMES))
    return url
