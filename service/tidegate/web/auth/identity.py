"""Who a viewer is, after its token was verified.

An identity is a few fields and not the token's claims: one is kept for each connection. User ids
are checked before they come near a Redis key: 1 to 256 printable characters, so no control
characters, no line ends, no lone surrogates, and at most 1 KiB of UTF-8.
"""

from __future__ import annotations

from typing import NamedTuple

USER_MAX_LENGTH = 256


class Identity(NamedTuple):
    """A verified viewer.

    Attributes:
        user: the user's id.
        expires_at: seconds since the epoch, leeway included, at which the token ends; None: never.
        limit: the user's own limit of connections, 0 for none; None: the gateway's.
        operations: ids and patterns that the token lists; None when it has no such claim.
        token_id: the token's own id (`jti`), by which it can be revoked.
        cancels: ids and patterns of operations that it allows to cancel; None: no such claim.
        issued_at_s: when it was issued, seconds since the epoch; None: it does not say.
    """

    user: str
    expires_at: float | None = None
    limit: int | None = None
    operations: tuple[str, ...] | None = None
    token_id: str | None = None
    issued_at_s: float | None = None
    cancels: tuple[str, ...] | None = None


#: Everyone, with `server.auth` = none.
ANONYMOUS = Identity("anonymous")


def is_user_id(text: str) -> bool:
    """Whether this may be a user's id."""
    return 0 < len(text) <= USER_MAX_LENGTH and text.isprintable()
