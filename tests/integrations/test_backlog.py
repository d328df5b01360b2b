"""What a reporter has still to send, for any course of events."""

from __future__ import annotations

import itertools
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from tidegate.integrations.backlog import (
    BATCH_MAX_BYTES,
    BATCH_MAX_ENTRIES,
    TIDY_ABOVE,
    Backlog,
    ItemBatch,
    ItemKind,
    Lane,
    WaitingItem,
)
from tidegate.model.ids import OperationId

A, B = Lane(OperationId("a")), Lane(OperationId("b"))


def lost(count: int) -> bytes:
    return f"lost {count}".encode()


def progress(text: str) -> WaitingItem:
    return WaitingItem(ItemKind.PROGRESS, text.encode())


def entry(text: str) -> WaitingItem:
    return WaitingItem(ItemKind.ENTRY, text.encode())


def step(text: str) -> WaitingItem:
    return WaitingItem(ItemKind.STEP, text.encode())


def texts(batch: ItemBatch | None) -> list[str]:
    return [] if batch is None else [text.decode() for text in batch.texts]


def drain(backlog: Backlog, now: float) -> list[str]:
    found: list[str] = []
    while (batch := backlog.take(now)) is not None:
        found += texts(batch)
        backlog.sent(batch, now)
    return found


def test_the_first_update_goes_out_at_once_and_the_last_after_the_interval() -> None:
    backlog = Backlog(1.0, lost)
    assert backlog.progress(A, progress("1"), 10.0)
    assert drain(backlog, 10.0) == ["1"]
    assert backlog.progress(A, progress("2"), 10.1)  # from now on something is due
    assert not backlog.progress(A, progress("3"), 10.9)  # in its place
    assert drain(backlog, 10.9) == []
    assert backlog.next_due() == 11.0
    assert drain(backlog, 11.0) == ["3"]
    assert backlog.next_due() is None
    assert not backlog.is_waiting()


def test_an_end_takes_the_last_update_along_in_one_write() -> None:
    backlog = Backlog(1.0, lost)
    backlog.progress(A, progress("1"), 0.0)
    drain(backlog, 0.0)
    backlog.progress(A, progress("2"), 0.1)
    backlog.add(A, step("end"), 0.2)
    assert texts(backlog.take(0.2)) == ["2", "end"]


def test_a_batch_that_failed_is_the_next_one_again_unchanged() -> None:
    backlog = Backlog(1.0, lost)
    backlog.add(A, entry("1"), 0.0)
    first = backlog.take(0.0)
    assert first is not None
    backlog.add(A, entry("2"), 0.0)
    assert backlog.take(0.0) is None  # one at a time
    backlog.put_back(first)
    assert backlog.take(5.0) is first
    backlog.sent(first, 5.0)
    assert drain(backlog, 5.0) == ["2"]


def test_other_operations_do_not_wait_for_one_that_fails() -> None:
    backlog = Backlog(1.0, lost)
    backlog.add(A, entry("a"), 0.0)
    backlog.add(B, entry("b"), 0.0)
    first = backlog.take(0.0)
    assert texts(first) == ["a"]
    assert texts(backlog.take(0.0)) == ["b"]


def test_a_start_is_written_alone() -> None:
    backlog = Backlog(1.0, lost)
    backlog.add(A, WaitingItem(ItemKind.START, b"start", "run"), 0.0)
    backlog.add(A, entry("1"), 0.0)
    backlog.add(A, step("end"), 0.0)
    first = backlog.take(0.0)
    assert texts(first) == ["start"]
    assert first is not None
    backlog.sent(first, 0.0)
    assert texts(backlog.take(0.0)) == ["1", "end"]


def test_a_full_buffer_refuses_entries_and_says_how_many() -> None:
    backlog = Backlog(1.0, lost, max_bytes=10)
    assert backlog.add(A, entry("12345"), 0.0)
    assert backlog.add(A, entry("67890"), 0.0)
    assert not backlog.add(A, entry("x"), 0.0)
    assert not backlog.add(B, entry("y"), 0.0)
    assert backlog.add(A, step("end"), 0.0)  # never refused
    assert backlog.dropped == 2
    sent: dict[Lane, list[str]] = defaultdict(list)
    while (batch := backlog.take(0.0)) is not None:
        sent[batch.lane] += texts(batch)
        backlog.sent(batch, 0.0)
    assert sent == {A: ["12345", "67890", "lost 1", "end"], B: ["lost 1"]}
    assert backlog.add(A, entry("1234567890"), 0.0)  # there is room again


def test_batches_are_bounded() -> None:
    backlog = Backlog(1.0, lost)
    for n in range(BATCH_MAX_ENTRIES + 1):
        backlog.add(A, entry(str(n)), 0.0)
    for _ in range(3):
        backlog.add(B, entry("x" * (BATCH_MAX_BYTES // 2)), 0.0)
    sizes = []
    while (batch := backlog.take(0.0)) is not None:
        sizes.append((batch.lane, len(batch.items)))
        backlog.sent(batch, 0.0)
    assert sorted(sizes) == [(A, 1), (A, BATCH_MAX_ENTRIES), (B, 1), (B, 2)]


def test_of_too_many_operations_the_oldest_are_dropped() -> None:
    bound = 2 * TIDY_ABOVE
    backlog = Backlog(1.0, lost, max_operations=bound)
    for n in range(3 * bound):
        backlog.add(Lane(OperationId(f"n{n}")), entry(str(n)), 0.0)
    assert drain(backlog, 0.0) == [str(n) for n in range(2 * bound, 3 * bound)]
    assert backlog.dropped == 2 * bound
    assert not backlog.is_waiting()
    for n in range(8 * bound):  # and nothing stays of those that were quiet
        backlog.add(Lane(OperationId(f"m{n}")), entry(str(n)), 0.0)
        assert drain(backlog, 0.0) == [str(n)]
    assert len(backlog._lanes) <= 2 * TIDY_ABOVE + 1
    assert backlog._bytes == 0


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["progress", "entry", "step", "take", "sent", "fail", "wait"]),
        st.sampled_from([A, B]),
    ),
    max_size=80,
)


@given(actions=_ACTIONS, room=st.sampled_from([12, 10_000]))
def test_nothing_is_lost_unsaid_or_out_of_order(actions: list[tuple[str, Lane]], room: int) -> None:
    backlog = Backlog(1.0, lost, max_bytes=room)
    now = 0.0
    away: list[ItemBatch] = []
    wanted: dict[Lane, list[str]] = defaultdict(list)  # entries and steps, as they were taken
    newest: dict[Lane, str] = {}
    refused: dict[Lane, int] = defaultdict(int)
    got: dict[Lane, list[tuple[float, str]]] = defaultdict(list)

    def arrive(batch: ItemBatch) -> None:
        got[batch.lane] += [(now, text) for text in texts(batch)]
        backlog.sent(batch, now)

    for n, (action, lane) in enumerate(actions):
        text = f"{action[0]}{n}"
        if action == "progress":
            newest[lane] = text
            backlog.progress(lane, progress(text), now)
        elif action == "entry":
            if backlog.add(lane, entry(text), now):
                wanted[lane].append(text)
            else:
                refused[lane] += 1
        elif action == "step":
            assert backlog.add(lane, step(text), now)
            wanted[lane].append(text)
        elif action == "take":
            if (batch := backlog.take(now)) is not None:
                assert batch.lane not in [one.lane for one in away]
                away.append(batch)
        elif action == "sent" and away:
            arrive(away.pop(0))
        elif action == "fail" and away:
            backlog.put_back(away.pop(0))
        elif action == "wait":
            now += 0.4
    for batch in away:
        arrive(batch)
    while (due := backlog.next_due()) is not None:
        now = max(now, due)
        while (one := backlog.take(now)) is not None:
            arrive(one)
    assert not backlog.is_waiting()
    assert backlog._bytes == 0
    for lane in (A, B):
        found = [text for _, text in got[lane]]
        assert [text for text in found if text[0] in "es"] == wanted[lane]
        assert sum(int(t.removeprefix("lost ")) for t in found if t[0] == "l") == refused[lane]
        shown = [text for text in found if text[0] == "p"]
        assert shown[-1:] == ([newest[lane]] if lane in newest else [])
        assert len(shown) == len(set(shown))


@given(gaps=st.lists(st.floats(0.01, 0.5), min_size=1, max_size=60))
def test_updates_alone_are_never_faster_than_the_interval(gaps: list[float]) -> None:
    backlog = Backlog(1.0, lost)
    now, sent = 0.0, []
    for n, gap in enumerate(gaps):
        now += gap
        backlog.progress(A, progress(str(n)), now)
        if drain(backlog, now):
            sent.append(now)
    assert all(later - earlier >= 1.0 - 1e-9 for earlier, later in itertools.pairwise(sent))
