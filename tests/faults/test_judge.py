"""The judge must notice: records made by hand, each wrong in one way, and what it has to say."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from tests.faults.judge import (
    Closed,
    Event,
    Gap,
    Got,
    Opened,
    Rules,
    Skipped,
    State,
    Verdict,
    Written,
    Wrong,
    judge,
)
from tidegate.model.ids import ZERO, StreamId

ALL = Rules(from_start=True)


def at(number: int, log: int = 0) -> StreamId:
    return StreamId(1000 * (log + 1) + number, 0)


def log_of(count: int, log: int = 0) -> list[Written]:
    """`count` entries, every fourth of a kind that is always kept, the last one terminal."""
    return [
        Written(at(n, log), n, "log" if n % 4 == 0 else "progress", terminal=n == count)
        for n in range(1, count + 1)
    ]


def got(*numbers: int, log: int = 0) -> list[Event]:
    return [Got(at(n, log), n, "log" if n % 4 == 0 else "progress") for n in numbers]


def first(cursor: StreamId = ZERO) -> list[Event]:
    return [Opened(0, None), State(cursor)]


def again(number: int, log: int = 0, code: int = 1006) -> list[Event]:
    position = ZERO if number == 0 else at(number, log)
    return [Closed(code), Opened(1, position), State(position)]


END: list[Event] = [Closed(1000)]
LOG = log_of(10)


def verdict(
    *parts: Sequence[Event], logs: Sequence[Sequence[Written]] = (LOG,), rules: Rules = ALL
) -> Verdict:
    return judge([event for part in parts for event in part], logs, rules)


def wrongs(*parts: Sequence[Event], logs: Sequence[Sequence[Written]] = (LOG,)) -> list[Wrong]:
    return [complaint.wrong for complaint in verdict(*parts, logs=logs).complaints]


# --- what is right


def test_all_in_order_is_right() -> None:
    seen = verdict(first(), got(*range(1, 11)), END)
    assert seen.complaints == []
    assert (seen.entries, seen.reconnects, seen.gaps) == (10, 0, 0)


def test_resuming_where_it_stood_is_right() -> None:
    seen = verdict(
        first(), again(0), got(1, 2, 3), again(3), again(3), got(*range(4, 11)), again(10), END
    )
    assert seen.complaints == []
    assert seen.reconnects == 4


def test_an_announced_gap_is_right() -> None:
    gap = Gap(at(3), at(6), "trimmed")
    assert wrongs(first(), got(1, 2, 3), [gap], got(6, 7, 8, 9, 10), END) == []


def test_a_true_count_of_superseded_entries_is_right() -> None:
    assert wrongs(first(), got(1, 2, 3, 4), [Skipped(2)], got(7, 8, 9, 10), END) == []


def test_a_connection_lost_between_skipped_and_its_entry_gets_it_all_later() -> None:
    begun = [*first(), *got(1, 2, 3, 4), Skipped(2)]
    assert wrongs(begun, again(4), got(*range(5, 11)), END) == []


def test_a_new_log_behind_a_gap_is_right() -> None:
    logs = (log_of(4), log_of(3, log=1))
    gap = Gap(at(4), at(1, 1), "recreated")
    assert wrongs(first(), got(1, 2, 3, 4), [gap], got(1, 2, 3, log=1), END, logs=logs) == []


def test_a_rewound_log_starts_again_behind_a_gap() -> None:
    gap = Gap(at(3), at(1), "rewound")
    assert wrongs(first(), got(1, 2, 3), [gap], got(*range(1, 11)), END) == []


def test_an_entry_that_a_failover_lost_may_be_missing_or_seen() -> None:
    lossy = [entry._replace(required=entry.number != 5) for entry in LOG]
    assert wrongs(first(), got(1, 2, 3, 4, 6, 7, 8, 9, 10), END, logs=(lossy,)) == []
    assert wrongs(first(), got(*range(1, 11)), END, logs=(lossy,)) == []


def test_late_entries_behind_the_terminal_one_may_be_cut_off() -> None:
    late = [*LOG, Written(at(11), 11, "progress")]
    assert wrongs(first(), got(*range(1, 11)), END, logs=(late,)) == []


def test_a_viewer_of_the_newest_entries_owes_nothing_before_its_cursor() -> None:
    record = [*first(at(6)), *got(7, 8, 9, 10), *END]
    assert judge(record, [LOG], Rules()).complaints == []


def test_a_viewer_without_history_comes_when_it_is_over() -> None:
    assert judge([*first(at(10)), *END], [LOG], Rules()).complaints == []


# --- what is wrong


def test_a_lost_entry() -> None:
    assert wrongs(first(), got(1, 2, 3, 5, 6, 7, 8, 9, 10), END) == [Wrong.LOST]


def test_an_entry_lost_at_a_reconnect() -> None:
    assert wrongs(first(), got(1, 2, 3), again(3), got(5, 6, 7, 8, 9, 10), END) == [Wrong.LOST]


def test_the_first_entry_lost() -> None:
    assert wrongs(first(), got(*range(2, 11)), END) == [Wrong.LOST]


def test_history_lost_before_the_first_cursor() -> None:
    assert wrongs(first(at(2)), got(*range(3, 11)), END) == [Wrong.LOST]


def test_a_doubled_entry() -> None:
    assert wrongs(first(), got(1, 2, 2, *range(3, 11)), END) == [Wrong.TWICE]


def test_an_entry_doubled_by_a_reconnect() -> None:
    assert wrongs(first(), got(1, 2), again(2), got(*range(2, 11)), END) == [Wrong.TWICE]


def test_swapped_entries() -> None:
    found = wrongs(first(), got(1, 2, 4, 3, 5, 6, 7, 8, 9, 10), END)
    assert Wrong.ORDER in found
    assert Wrong.LOST in found


def test_a_stale_block_of_entries() -> None:
    assert Wrong.ORDER in wrongs(first(), got(1, 2, 3, 4, 2, 3, 4, *range(5, 11)), END)


def test_an_entry_that_nobody_wrote() -> None:
    assert wrongs(first(), got(1, 2), got(2, log=7), got(*range(3, 11)), END) == [Wrong.UNKNOWN]


def test_an_altered_entry() -> None:
    swapped = [Got(at(2), 3, "progress")]
    assert wrongs(first(), got(1), swapped, got(*range(3, 11)), END) == [Wrong.ALTERED]


@pytest.mark.parametrize("count", [1, 3])
def test_a_wrong_skipped_count(count: int) -> None:
    found = wrongs(first(), got(1, 2, 3, 4), [Skipped(count)], got(7, 8, 9, 10), END)
    assert found == [Wrong.SKIPPED]


def test_skipped_without_a_hole() -> None:
    found = wrongs(first(), got(1, 2, 3), [Skipped(1)], got(*range(4, 11)), END)
    assert found == [Wrong.SKIPPED]


def test_an_entry_skipped_that_must_be_kept() -> None:
    found = wrongs(first(), got(1, 2, 3), [Skipped(2)], got(*range(6, 11)), END)
    assert found == [Wrong.SKIPPED]


def test_skipped_forgives_nothing_on_the_next_connection() -> None:
    found = wrongs(first(), got(1, 2, 3, 4), [Skipped(2)], again(4), got(7, 8, 9, 10), END)
    assert found == [Wrong.LOST]


def test_a_gap_forgives_nothing_on_the_next_connection() -> None:
    gap = Gap(at(3), at(6), "trimmed")
    found = wrongs(first(), got(1, 2, 3), [gap], again(3), got(6, 7, 8, 9, 10), END)
    assert found == [Wrong.LOST]


def test_a_gap_forgives_one_hole_only() -> None:
    gap = Gap(at(1), at(3), "trimmed")
    found = wrongs(first(), got(1), [gap], got(3, 4, 6, 7, 8, 9, 10), END)
    assert found == [Wrong.LOST]


def test_a_gap_that_names_another_entry() -> None:
    gap = Gap(at(3), at(6), "trimmed")
    assert wrongs(first(), got(1, 2, 3), [gap], got(7, 8, 9, 10), END) == [Wrong.GAP]


def test_a_gap_that_claims_more_than_was_sent() -> None:
    gap = Gap(at(5), at(7), "trimmed")
    assert wrongs(first(), got(1, 2, 3), [gap], got(7, 8, 9, 10), END) == [Wrong.GAP]


def test_a_trimmed_gap_cannot_lead_back() -> None:
    gap = Gap(at(3), at(2), "trimmed")
    assert wrongs(first(), got(1, 2, 3), [gap], got(*range(2, 11)), END) == [Wrong.GAP]


def test_a_new_log_without_a_gap() -> None:
    logs = (log_of(4), log_of(3, log=1))
    assert Wrong.UNKNOWN in wrongs(first(), got(1, 2, 3, 4), got(1, 2, 3, log=1), END, logs=logs)


def test_a_hole_in_the_new_log() -> None:
    logs = (log_of(4), log_of(4, log=1))
    gap = Gap(at(4), at(1, 1), "recreated")
    found = wrongs(first(), got(1, 2, 3, 4), [gap], got(1, 3, 4, log=1), END, logs=logs)
    assert found == [Wrong.LOST]


def test_a_state_that_stands_elsewhere() -> None:
    moved: list[Event] = [Closed(1006), Opened(1, at(3)), State(at(4))]
    found = wrongs(first(), got(1, 2, 3), moved, got(*range(4, 11)), END)
    assert found == [Wrong.CURSOR]


def test_an_end_without_the_terminal_entry() -> None:
    assert wrongs(first(), got(*range(1, 10)), END) == [Wrong.END]


def test_no_end() -> None:
    assert wrongs(first(), got(*range(1, 11))) == [Wrong.END]
    assert wrongs(first(), got(*range(1, 11)), [Closed(1006)]) == [Wrong.END]


def test_frames_after_the_end() -> None:
    assert Wrong.END in wrongs(first(), got(*range(1, 11)), END, [Opened(0, at(10))], END)


@pytest.mark.parametrize("seed", range(200))
def test_any_single_change_of_a_right_record_is_noticed(seed: int) -> None:
    """Drop, repeat or swap one entry of a right record with reconnects anywhere."""
    rng = random.Random(seed)
    log = log_of(30)
    record = [*first(), *got(*range(1, 31)), *END]
    harm = rng.choice(("drop", "repeat", "swap"))
    where = rng.randrange(2, 31)  # not the last one: nothing comes after it
    match harm:
        case "drop":
            del record[where]
        case "repeat":
            record.insert(where, record[where])
        case "swap":
            record[where], record[where + 1] = record[where + 1], record[where]
    # A reconnect may stand anywhere: the viewer asks for the last id it has.
    cut = rng.randrange(3, 31)
    last = record[cut - 1]
    assert isinstance(last, Got)
    record[cut:cut] = [Closed(1006), Opened(1, last.id), State(last.id)]
    assert judge(record, [log], ALL).complaints
