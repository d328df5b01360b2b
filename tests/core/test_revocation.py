"""The book of revoked tokens against a plain list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tidegate.core import revocation
from tidegate.core.revocation import REVOCATIONS_MAX, Revocation, Revocations

USERS = st.sampled_from(["u", "v"])
IDS = st.none() | st.sampled_from(["a", "b"])
TIMES = st.none() | st.sampled_from([0.0, 99.5, 100.0, 100.5])
ROWS = st.builds(Revocation, USERS, IDS, TIMES)


def revoked(rows: list[Revocation], user: str, token_id: str | None, at: float | None) -> bool:
    for row in rows:
        if row.user != user:
            continue
        if row.token_id is not None and row.token_id == token_id:
            return True
        if row.issued_before_s is not None and (at is None or at < row.issued_before_s):
            return True
    return False


@given(st.lists(ROWS), st.lists(ROWS), st.lists(ROWS), USERS, IDS, TIMES)
def test_what_was_listed_or_told_since_is_revoked_and_nothing_else(
    before: list[Revocation],
    listed: list[Revocation],
    since: list[Revocation],
    user: str,
    token_id: str | None,
    at: float | None,
) -> None:
    book = Revocations()
    for row in before:
        assert book.tell(row)
    assert book.cover(user, token_id, at) is revoked(before, user, token_id, at)
    book.begin_reading()
    for row in since:
        assert book.tell(row)
    assert book.cover(user, token_id, at) is revoked(before + since, user, token_id, at)
    more = book.have_read(listed)
    assert more is not (set(listed) <= set(before + since))
    assert book.cover(user, token_id, at) is revoked(listed + since, user, token_id, at)
    assert len(book) == len(set(listed + since))


def test_the_book_has_a_bound() -> None:
    book = Revocations()
    assert all(book.tell(Revocation("u", str(n))) for n in range(REVOCATIONS_MAX))
    assert not book.tell(Revocation("u", "one more"))
    assert book.tell(Revocation("u", "7")), "it is there already"
    assert book.have_read([Revocation("v", str(n)) for n in range(2 * REVOCATIONS_MAX)])
    assert len(book) == revocation.REVOCATIONS_MAX
