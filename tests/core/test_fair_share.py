"""Whose turn is next, told by counting turns: shares, order, and that nobody is forgotten."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.harness.examples import examples
from tidegate.core.fair_share import FairShare


def serve(share: FairShare[int], wishes: dict[str, int], turns: int, cost: float = 1.0) -> str:
    """Who had the next so many turns, one at a time; who has had one wants another."""
    served = []
    for _ in range(turns):
        found = share.next()
        assert found is not None
        user, waiter = found
        served.append(user)
        share.wait(user, waiter)
        share.give_back(user, cost)
    assert wishes
    return "".join(served)


def wish(share: FairShare[int], **wishes: int) -> dict[str, int]:
    for user, count in wishes.items():
        for number in range(count):
            share.wait(user, number)
    return wishes


def test_ten_connections_of_one_user_had_ten_shares() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wishes = wish(share, m=10, a=1, b=1)
    served = Counter(serve(share, wishes, 300))
    assert served == {"m": 100, "a": 100, "b": 100}


def test_who_wants_little_waited_behind_all_who_want_much() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wishes = wish(share, **dict.fromkeys("mnopqrst", 3))
    _ = serve(share, wishes, 100)
    share.wait("a", 0)
    behind = []
    while (found := share.next()) is not None and found[0] != "a":
        behind.append(found[0])
        share.wait(*found)
        share.give_back(found[0], 1.0)
    assert len(behind) <= 1


def test_newcomers_without_end_kept_the_others_from_their_turns() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wishes = wish(share, m=1, n=1)
    _ = serve(share, wishes, 100)
    served = Counter[str]()
    for number in range(400):
        share.wait(f"new-{number}", 0)
        found = share.next()
        assert found is not None
        user, waiter = found
        served["new" if user.startswith("new") else "old"] += 1
        if not user.startswith("new"):
            share.wait(user, waiter)
        share.give_back(user, 1.0)
    assert served["old"] >= 100


def test_who_costs_more_comes_less_often() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wish(share, large=1, small=1)
    spent = Counter[str]()
    for _ in range(1_100):
        found = share.next()
        assert found is not None
        user, waiter = found
        cost = 10.0 if user == "large" else 1.0
        spent[user] += int(cost)
        share.wait(user, waiter)
        share.give_back(user, cost)
    assert abs(spent["large"] - spent["small"]) <= 20


def test_a_rest_earns_no_credit() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wish(share, m=1, a=1)
    _ = serve(share, {"m": 1, "a": 1}, 10)
    share.forget("a", 0)
    _ = serve(share, {"m": 1}, 100)
    share.wait("a", 0)
    assert Counter(serve(share, {"m": 1, "a": 1}, 20))["a"] <= 11


def test_what_is_kept_of_users_is_bounded() -> None:
    share: FairShare[int] = FairShare(1, 1)
    wishes = wish(share, m=2)
    _ = serve(share, wishes, 10)
    for number in range(5_000):
        share.wait(f"user-{number}", 0)
        for _ in range(2):
            found = share.next()
            assert found is not None
            if found[0] == "m":
                share.wait(*found)
            share.give_back(found[0], 1.0)
    while (found := share.next()) is not None and found[0] != "m":
        share.give_back(found[0], 1.0)
    assert len(share._cost) < 200
    assert len(share._line) < 200
    assert len(share._newcomers) < 200


WISHES = st.lists(
    st.tuples(st.sampled_from(["wait", "end", "next", "forget", "take"]), st.sampled_from("abc")),
    max_size=80,
)


@hypothesis_settings(deadline=None, max_examples=examples(400))
@given(st.integers(1, 4), st.integers(1, 3), WISHES)
def test_in_whatever_order_every_turn_is_somebodys(
    turns: int, most: int, steps: list[tuple[str, str]]
) -> None:
    share: FairShare[int] = FairShare(turns, most)
    held = Counter[str]()
    waiting: dict[str, list[int]] = {user: [] for user in "abc"}

    def grant() -> bool:
        found = share.next()
        if found is None:
            return False
        user, waiter = found
        assert waiting[user].pop(0) == waiter
        held[user] += 1
        return True

    for number, (step, user) in enumerate(steps):
        if step == "wait":
            share.wait(user, number)
            waiting[user].append(number)
        elif step == "end" and held[user]:
            share.give_back(user, float(number % 3))
            held[user] -= 1
        elif step == "forget" and waiting[user]:
            share.forget(user, waiting[user].pop())
        elif step == "take" and share.take(user):
            held[user] += 1
        elif step == "next":
            _ = grant()
        assert all(count <= most for count in held.values())
        assert share.free == turns - held.total()
    while grant():
        pass
    # A turn is free only where nobody may have it.
    may = [user for user in "abc" if waiting[user] and held[user] < most]
    assert not (share.free and may)
    for user in "abc":
        while held[user]:
            share.give_back(user)
            held[user] -= 1
            _ = grant()
    while any(waiting.values()):
        while grant():
            pass
        for user in "abc":
            while held[user]:
                share.give_back(user)
                held[user] -= 1
    assert share.waiting == 0
