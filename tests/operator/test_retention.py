"""What a stream is judged to be, and until when it is kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.sweeping import DAY_S, HOUR_S, spec
from tidegate.model.entries import Entry, RawEntry, read_entry
from tidegate.model.ids import StreamId
from tidegate_operator.streams.liveness import FRESH_MS, Leases, Liveness
from tidegate_operator.streams.look import Consumer, ConsumerGroup, Look, Mark
from tidegate_operator.streams.plan import (
    Expire,
    RemoveConsumer,
    RemoveGroup,
    Revive,
    Step,
    TrimEntries,
    TrimFeed,
    plan,
)
from tidegate_operator.streams.retention import AHEAD_MS, RetentionRules, RetentionState

NOW_MS = 1_795_400_000_000
GRACE_MS = 600_000
LIVE = Liveness(frozenset({"pod-a"}))
NOBODY_KNOWN = Liveness(None)
RETENTION = RetentionRules.of(spec())


def entry(entry_id: StreamId, fields: dict[str, str]) -> Entry:
    flat = [part.encode() for pair in fields.items() for part in pair]
    return read_entry(entry_id, RawEntry(str(entry_id).encode(), flat))


def stream(age_s: float = 0, fields: dict[str, str] | None = None, **look: Any) -> Look:
    """A stream whose newest entry has these fields."""
    at = StreamId(NOW_MS - int(age_s * 1000), 0)
    found = entry(at, fields or {"type": "progress"})
    given: dict[str, Any] = {"key": b"operation-progress:1", "last": at, "entry": found}
    return Look(**(given | look))


def watched_by(*names: str, idle_ms: int = 10 * FRESH_MS, pending: int = 0) -> ConsumerGroup:
    consumers = tuple(Consumer(name, pending, idle_ms) for name in names)
    return ConsumerGroup(consumers, pending * len(names))


def steps(
    look: Look, liveness: Liveness = LIVE, retention: RetentionRules = RETENTION
) -> tuple[RetentionState, list[Step]]:
    judged = retention.judge(look, liveness, NOW_MS)
    return judged.state, list(plan(look, judged, retention, liveness))


def test_a_worker_lives_by_its_own_lease_or_by_its_pod() -> None:
    """While leases say nothing of a worker, Kubernetes still knows the pod that it runs in."""
    [own, other] = watched_by("pod-a/1", "pod-b/1").consumers
    assert not LIVE.is_dead(own)
    assert LIVE.is_dead(other)
    assert not Liveness(frozenset({"pod-b/1"})).is_dead(other)
    assert Liveness(frozenset({"pod-b/1"})).is_dead(own)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"message": '{"type":"operation_completed","data":{}}'}, RetentionState.FINISHED),
        ({"message": '{"type":"x","data":{"status":"completed"}}'}, RetentionState.FINISHED),
        ({"message": '{"type":"x","data":{"status":"cancelled"}}'}, RetentionState.FINISHED),
        ({"message": '{"type":"x","data":{"status":"failed"}}'}, RetentionState.FAILED),
        (
            {"message": '{"type":"operation_failed","data":{"status":"error"}}'},
            RetentionState.FAILED,
        ),
        (
            {"message": '{"type":"operation_failed","data":{"status":"completed"}}'},
            RetentionState.FAILED,
        ),
        ({"status": "completed"}, RetentionState.FINISHED),
        ({"type": "operation_cancelled"}, RetentionState.FINISHED),
        ({"message": '{"type":"x","data":{"status":"running"}}'}, RetentionState.RUNNING),
        ({"message": '{"type":"x","data":{"status":7}}'}, RetentionState.RUNNING),
        ({"message": "not json, operation_completed"}, RetentionState.RUNNING),
        ({"x": "completed"}, RetentionState.RUNNING),
    ],
)
def test_the_newest_entry_says_what_a_stream_is(
    fields: dict[str, str], state: RetentionState
) -> None:
    assert steps(stream(5, fields))[0] is state


def test_the_words_for_the_end_are_settings() -> None:
    retention = RetentionRules.of(
        spec(terminal_statuses=["done", "broken"], terminal_types=[], failed_statuses=["broken"])
    )
    assert steps(stream(0, {"status": "done"}), retention=retention)[0] is RetentionState.FINISHED
    assert steps(stream(0, {"status": "broken"}), retention=retention)[0] is RetentionState.FAILED
    assert (
        steps(stream(0, {"status": "completed"}), retention=retention)[0] is RetentionState.RUNNING
    )


END = {"status": "completed"}


@pytest.mark.parametrize(
    ("age_s", "left_s"),
    [(0, HOUR_S), (1800, 1800), (HOUR_S - 1, 600), (HOUR_S, 600), (30 * DAY_S, 600), (-10, HOUR_S)],
)
def test_the_age_counts_and_a_grace_is_left(age_s: float, left_s: float) -> None:
    _, [step] = steps(stream(age_s, END))
    assert isinstance(step, Expire)
    assert step.at_ms == NOW_MS + left_s * 1000
    assert step.least_ms <= left_s * 1000


def test_times_by_prefix_the_longest_wins_and_zero_keeps() -> None:
    retention = RetentionRules.of(
        spec(
            ttl={"finished_s": HOUR_S},
            overrides=[
                {"prefix": "operation-progress:a-", "finished_s": 7200},
                {"prefix": "operation-progress:a-b-", "finished_s": 0, "failed_s": 300},
            ],
        )
    )

    def left(name: str, fields: dict[str, str]) -> float | None:
        found = steps(stream(0, fields, key=f"operation-progress:{name}".encode()), LIVE, retention)
        ttls = [(s.at_ms - NOW_MS) / 1000 for s in found[1] if isinstance(s, Expire)]
        return ttls[0] if ttls else None

    assert left("x", END) == HOUR_S
    assert left("a-1", END) == 7200
    assert left("a-b-1", END) is None
    assert left("a-b-1", {"status": "failed"}) == 300
    assert left("a-1", {"status": "failed"}) == DAY_S


#: The gateway's group, which was given everything there is.
GIVEN = ConsumerGroup(position=StreamId(NOW_MS + DAY_S * 1000, 0))


@pytest.mark.parametrize(
    ("look", "state"),
    [
        (stream(DAY_S - 1), RetentionState.RUNNING),
        (stream(DAY_S), RetentionState.ORPHAN),
        (stream(DAY_S, group=ConsumerGroup()), RetentionState.IDLE),
        (stream(DAY_S, other_groups=1, group=GIVEN), RetentionState.IDLE),
        (stream(DAY_S, other_groups=1, other_pending=1, group=GIVEN), RetentionState.RUNNING),
        (stream(DAY_S, group=watched_by("pod-a")), RetentionState.RUNNING),
        (stream(DAY_S, group=watched_by("pod-dead")), RetentionState.IDLE),
        (stream(DAY_S, group=watched_by("pod-dead", idle_ms=5)), RetentionState.RUNNING),
        (stream(DAY_S, group=watched_by("pod-dead", "pod-a")), RetentionState.RUNNING),
        (
            stream(DAY_S, group=watched_by("pod-dead")._replace(all_told=False)),
            RetentionState.RUNNING,
        ),
        (stream(DAY_S, subscribers=1), RetentionState.RUNNING),
        (stream(DAY_S, subscribers=0), RetentionState.ORPHAN),
        (stream(last=StreamId(7, 1)), RetentionState.RUNNING),
        (stream(last=StreamId(NOW_MS + AHEAD_MS + 1, 0)), RetentionState.RUNNING),
    ],
)
def test_only_who_is_quiet_and_alone_is_idle(look: Look, state: RetentionState) -> None:
    assert steps(look)[0] is state


@pytest.mark.parametrize("fields", [END, {"type": "progress"}])
def test_a_stream_with_groups_and_none_of_ours_is_left_alone(fields: dict[str, str]) -> None:
    """With a wrong prefix it was another team's, and was given a TTL."""
    retention = RetentionRules.of(spec(trim={"finished_entries": 1}))
    look = stream(9 * DAY_S, fields, other_groups=1, length=7)
    assert steps(look, retention=retention) == (RetentionState.FOREIGN, [])


def test_a_stream_that_others_read_is_ours_once_our_group_was_given_all_of_it() -> None:
    look = stream(9 * DAY_S, END, other_groups=1)
    behind = watched_by("pod-dead")._replace(position=look.last.before())
    assert steps(look._replace(group=behind)) == (RetentionState.FOREIGN, []), (
        "its dead pods stay as well"
    )
    assert steps(look._replace(group=behind, other_groups=0))[0] is RetentionState.FINISHED
    assert (
        steps(look._replace(group=behind._replace(position=look.last)))[0]
        is RetentionState.FINISHED
    )


def test_our_mark_stands_for_our_group_until_something_new_is_written() -> None:
    """The group of an ended stream is removed, and a reader of somebody else's may come or stay."""
    at = NOW_MS + 1000
    look = stream(0, END, other_groups=1, expires_at_ms=at)
    assert steps(look._replace(mark=Mark(look.last, at))) == (RetentionState.FINISHED, [])
    mark = Mark(look.last.before(), at)
    assert steps(look._replace(mark=mark)) == (RetentionState.FOREIGN, [Revive(mark)]), (
        "our TTL goes"
    )
    assert steps(look._replace(mark=mark, expires_at_ms=at + 1)) == (RetentionState.FOREIGN, [])


def test_ids_that_are_no_times_still_go_when_they_have_ended() -> None:
    state, [step] = steps(stream(0, END, last=StreamId(7, 1)))
    assert state is RetentionState.FINISHED
    assert isinstance(step, Expire)
    assert step.at_ms == NOW_MS + HOUR_S * 1000


def test_nobody_is_dead_while_it_cannot_be_said() -> None:
    look = stream(DAY_S, group=watched_by("pod-dead"))
    assert steps(look, NOBODY_KNOWN) == (RetentionState.RUNNING, [])


# -- steps -----------------------------------------------------------------------------------------


def test_an_earlier_ttl_stays_and_a_later_one_is_shortened() -> None:
    at = NOW_MS + HOUR_S * 1000
    assert steps(stream(0, END, expires_at_ms=at))[1] == []
    assert steps(stream(0, END, expires_at_ms=at - 1))[1] == []
    assert len(steps(stream(0, END, expires_at_ms=at + 1))[1]) == 1


def test_our_own_ttl_for_an_older_end_is_set_anew() -> None:
    sooner = NOW_MS + 1000
    look = stream(0, END, expires_at_ms=sooner)
    assert steps(look._replace(mark=Mark(look.last, sooner)))[1] == []
    assert steps(look._replace(mark=Mark(StreamId(5, 5), sooner - 1)))[1] == [], "not ours"
    assert len(steps(look._replace(mark=Mark(StreamId(5, 5), sooner)))[1]) == 1


def test_a_ttl_of_ours_is_taken_back_when_it_runs_again_and_no_other() -> None:
    at = NOW_MS + 1000
    mark = Mark(StreamId(5, 5), at)
    assert steps(stream(expires_at_ms=at, mark=mark)) == (RetentionState.RUNNING, [Revive(mark)])
    assert steps(stream(expires_at_ms=at)) == (RetentionState.RUNNING, [])
    assert steps(stream(expires_at_ms=at + 1, mark=mark)) == (RetentionState.RUNNING, [])
    assert steps(stream(mark=mark)) == (RetentionState.RUNNING, [])


def test_trimming_is_for_ended_streams_and_when_it_is_asked_for() -> None:
    retention = RetentionRules.of(spec(trim={"finished_entries": 10}))
    at = NOW_MS + 1000
    ended = stream(0, END, length=11, expires_at_ms=at)
    assert steps(ended)[1] == []
    assert steps(ended, retention=retention)[1] == [TrimEntries(10)]
    assert steps(ended._replace(length=10), retention=retention)[1] == []
    assert steps(stream(5, length=11), retention=retention)[1] == []


LISTED = {"message": '{"type":"listed","data":{"operation":"42","title":"Export"}}'}
WEEK_S = 7 * DAY_S


def feed(length: int, oldest_s: float, age_s: float = 0, **look: Any) -> Look:
    """A feed whose oldest entry has this age."""
    first = StreamId(NOW_MS - int(oldest_s * 1000), 0)
    return stream(age_s, LISTED, length=length, first=first, **look)


def test_a_feed_is_kept_short_by_count_and_by_age() -> None:
    def found(look: Look, **feeds: Any) -> list[Step]:
        retention = RetentionRules.of(spec(feeds=feeds))
        judged = retention.judge(look, LIVE, NOW_MS)
        assert judged.state is RetentionState.RUNNING
        return list(plan(look, judged, retention, LIVE, NOW_MS))

    oldest_ms = NOW_MS - WEEK_S * 1000
    assert found(feed(200, 60)) == []
    assert found(feed(201, 60)) == [TrimFeed(200, oldest_ms)]
    assert found(feed(11, 60), entries=10) == [TrimFeed(10, oldest_ms)]
    assert found(feed(2, WEEK_S + 1)) == [TrimFeed(200, oldest_ms)]
    assert found(feed(2, WEEK_S + 1), max_age_s=0) == []
    assert found(feed(201, 60), max_age_s=0) == [TrimFeed(200, 0)]
    # The newest is kept, however old: it tells that it is a feed.
    hour = found(feed(2, 3 * HOUR_S, 2 * HOUR_S), max_age_s=HOUR_S)
    assert hour == [TrimFeed(200, NOW_MS - 2 * HOUR_S * 1000)]
    assert found(feed(1, 2 * HOUR_S, 2 * HOUR_S), max_age_s=HOUR_S) == []
    # Ids that are no times.
    assert found(feed(5, 0)._replace(first=StreamId(1, 0), last=StreamId(5, 0))) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "listed", "operation": "42", "status": "completed"},
        {"message": '{"type":"listed","data":{"operation":"42","status":"failed"}}'},
    ],
)
def test_a_feed_is_no_finished_operation(fields: dict[str, str]) -> None:
    assert steps(stream(5, fields))[0] is RetentionState.RUNNING


def test_an_idle_feed_goes_like_other_streams() -> None:
    state, found = steps(stream(2 * DAY_S, LISTED, length=3))
    assert state is RetentionState.ORPHAN
    assert [type(step) for step in found] == [Expire]


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "listed"},
        {"type": "listed", "operation": "../x"},
        {"message": '{"type":"listed","data":["42"]}'},
        {"message": '{"type":"listing","data":{"operation":"42"}}'},
        {"message": '{"type":"listed","data":{"operation":"\\ud800"}}'},
    ],
)
def test_an_operation_is_not_trimmed_as_if_it_were_a_feed(fields: dict[str, str]) -> None:
    look = stream(5, fields, length=10_000, first=StreamId(NOW_MS - 30 * WEEK_S * 1000, 0))
    assert not look.is_feed
    assert steps(look)[1] == []


def test_dead_consumers_go_and_their_heir_is_somebody_alive() -> None:
    found = steps(stream(group=watched_by("pod-dead", "pod-a", "pod-gone")))
    heir = [RemoveConsumer(name, "pod-a", FRESH_MS) for name in ("pod-dead", "pod-gone")]
    assert found == (RetentionState.RUNNING, heir)
    alone = steps(stream(group=watched_by("pod-dead")))
    assert alone == (RetentionState.RUNNING, [RemoveConsumer("pod-dead", None, FRESH_MS)])


def test_the_group_of_an_ended_stream_goes_when_nobody_is_left() -> None:
    def removed(**look: Any) -> bool:
        at = NOW_MS + 1000
        found = steps(stream(0, END, **({"expires_at_ms": at} | look)))[1]
        return RemoveGroup() in found

    assert removed(group=ConsumerGroup())
    assert removed(group=watched_by("pod-dead"))
    assert removed(group=watched_by("pod-dead", pending=3))
    assert not removed(group=watched_by("pod-a"))
    assert not removed(group=watched_by("pod-dead", "pod-a"))
    assert not removed(group=watched_by("pod-dead")._replace(all_told=False))
    assert not removed(group=watched_by("pod-dead")._replace(pending=2)), "somebody unknown's"
    assert not removed(group=ConsumerGroup(), subscribers=1)
    assert not removed()
    assert RemoveGroup() not in steps(stream(DAY_S, group=ConsumerGroup()))[1], (
        "tells idle from orphan"
    )


LOOKS = st.builds(
    stream,
    age_s=st.one_of(st.floats(-DAY_S, 400 * DAY_S), st.sampled_from([0, HOUR_S, DAY_S])),
    fields=st.sampled_from([{"type": "progress"}, END, {"status": "failed"}, {"status": "?"}]),
    length=st.none() | st.integers(0, 100),
    expires_at_ms=st.none() | st.integers(NOW_MS, NOW_MS + 400 * DAY_S * 1000),
    group=st.none()
    | st.builds(
        watched_by,
        st.sampled_from(["pod-a", "pod-dead"]),
        idle_ms=st.integers(0, 10 * FRESH_MS),
        pending=st.integers(0, 3),
    ),
    mark=st.none() | st.builds(Mark, st.just(StreamId(5, 5)), st.integers(NOW_MS, NOW_MS + 9)),
    other_groups=st.integers(0, 1),
    subscribers=st.sampled_from([None, 0, 1]),
)
LIVENESS = st.sampled_from([LIVE, NOBODY_KNOWN, Liveness(frozenset())])


@given(LOOKS, LIVENESS)
def test_a_running_stream_is_never_given_a_ttl_or_trimmed(look: Look, liveness: Liveness) -> None:
    retention = RetentionRules.of(spec(trim={"finished_entries": 1}))
    state, found = steps(look, liveness, retention)
    harmful = [step for step in found if isinstance(step, Expire | TrimEntries | RemoveGroup)]
    if state is RetentionState.RUNNING:
        assert not harmful
    if look.subscribers or (look.group and not liveness.is_dead(look.group.consumers[0])):
        assert all(
            isinstance(step, Expire | TrimEntries) and not_unwatched(step) for step in harmful
        )


def not_unwatched(step: Step) -> bool:
    return not (isinstance(step, Expire) and step.unwatched)


@given(LOOKS, LIVENESS)
def test_an_ended_stream_always_has_a_ttl_afterwards_and_never_a_longer_one(
    look: Look, liveness: Liveness
) -> None:
    state, found = steps(look, liveness)
    expiries = [step.at_ms for step in found if isinstance(step, Expire)]
    assert len(expiries) <= 1
    for at_ms in expiries:
        assert at_ms >= NOW_MS + GRACE_MS
        assert look.expires_at_ms is None or at_ms < look.expires_at_ms or look.is_ours
    if state in (RetentionState.FINISHED, RetentionState.FAILED):
        assert expiries or look.expires_at_ms is not None


# -- who lives -------------------------------------------------------------------------------------

LEASE_MS = 15_000
ROWS = [("pod-a.1000.ab", NOW_MS + 1.0), ("pod-b.1001.cd", NOW_MS - 1.0)]


def leases(since: int, last: int) -> Leases:
    return Leases.of(NOW_MS, (NOW_MS - since, NOW_MS - last, 2000), ROWS, LEASE_MS)


def test_leases_prove_a_death_only_when_they_were_kept_for_a_lease() -> None:
    assert leases(LEASE_MS, 0).certain
    assert leases(LEASE_MS, LEASE_MS).certain
    assert not leases(LEASE_MS - 1, 0).certain, "lost a moment ago"
    assert not leases(10 * LEASE_MS, LEASE_MS + 1).certain, "nobody renews"
    assert not leases(-5, 0).certain, "the clock stepped back"
    assert not Leases.of(NOW_MS, None, ROWS, LEASE_MS).certain
    assert leases(LEASE_MS, 0).live == {"pod-a.1000.ab"}


def test_dead_is_who_has_no_lease_and_does_not_exist() -> None:
    known = leases(LEASE_MS, 0)
    gone = Consumer("pod-b", 0, 10 * FRESH_MS)
    assert Liveness.of(known, None, alone=True).is_dead(gone)
    assert Liveness.of(known, {"pod-a"}, alone=False).is_dead(gone)
    assert not Liveness.of(known, {"pod-b"}, alone=False).is_dead(gone)
    assert not Liveness.of(known, None, alone=False).is_dead(gone), "Kubernetes did not answer"
    assert not Liveness.of(leases(0, 0), {"pod-a"}, alone=False).is_dead(gone)
    assert not Liveness.of(known, (), alone=False).is_dead(Consumer("pod-a", 0, 10 * FRESH_MS))
    assert not Liveness.of(known, (), alone=False).is_dead(gone._replace(idle_ms=FRESH_MS - 1))


@pytest.mark.parametrize(
    ("incarnation", "dead"),
    [
        ("pod-a.1000.ab", False),
        ("pod-b.1001.cd", True),
        ("pod-c.2000.ef", True),
        ("pod-c.2001.ef", False),  # younger than the view
        ("pod.with.dots.1500.ef", True),
        ("nonsense", False),
        ("pod.x.ef", False),
        ("", False),
    ],
)
def test_slots_are_left_over_when_their_incarnation_is_dead(incarnation: str, dead: bool) -> None:
    exists = {"pod-b"}  # the incarnation is dead for ever, whatever the pod is now
    assert (
        Liveness.of(leases(LEASE_MS, 0), exists, alone=False).is_dead_incarnation(incarnation)
        is dead
    )
    assert not Liveness.of(leases(0, 0), exists, alone=False).is_dead_incarnation(incarnation)
