"""Which tokens are good no longer although their signature and their time are right.

A revocation names one token of a user by its id (`jti`), or all that were issued before a time. The
book holds what this replica knows, in memory: asking it costs a connect two look-ups. What it is
told by others counts at once; the next reading of the common list replaces everything that it knew
before that reading began. Bounded by `REVOCATIONS_MAX`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

#: Kept in Redis and by each replica; about 300 bytes each.
REVOCATIONS_MAX = 10_000


class Revocation(NamedTuple):
    """Of a user: the token with this id, or every token that was issued before this time.

    Attributes:
        issued_before_s: seconds since the epoch; a token that says nothing of when it was issued
            counts as issued before.
    """

    user: str
    token_id: str | None = None
    issued_before_s: float | None = None

    def covers(self, token_id: str | None, issued_at_s: float | None) -> bool:
        """Whether a token of this user, with these claims, is revoked by it."""
        if self.token_id is not None and token_id == self.token_id:
            return True
        if self.issued_before_s is None:
            return False
        return issued_at_s is None or issued_at_s < self.issued_before_s


class Revocations:
    """The book of one replica."""

    def __init__(self) -> None:
        self._by_user: dict[str, set[Revocation]] = {}
        self._count = 0
        #: Told since the reading of the list began, which may not have them.
        self._told: list[Revocation] = []

    def __len__(self) -> int:
        return self._count

    def tell(self, revocation: Revocation) -> bool:
        """Someone has revoked; False when the book is full and this is new."""
        if len(self._told) < REVOCATIONS_MAX:
            self._told.append(revocation)
        return self._add(revocation)

    def begin_reading(self) -> None:
        """The list is about to be read."""
        self._told.clear()

    def have_read(self, listed: Iterable[Revocation]) -> bool:
        """The list as it was read; whether that revokes anything which was not before."""
        before = self._by_user
        self._by_user, self._count = {}, 0
        for revocation in (*listed, *self._told):
            self._add(revocation)
        return any(not rows <= before.get(user, set()) for user, rows in self._by_user.items())

    def cover(self, user: str, token_id: str | None, issued_at_s: float | None) -> bool:
        """Whether this token is revoked."""
        rows = self._by_user.get(user)
        return rows is not None and any(row.covers(token_id, issued_at_s) for row in rows)

    def _add(self, revocation: Revocation) -> bool:
        rows = self._by_user.get(revocation.user)
        if rows is not None and revocation in rows:
            return True
        if self._count >= REVOCATIONS_MAX:
            return False
        self._by_user.setdefault(revocation.user, set()).add(revocation)
        self._count += 1
        return True
