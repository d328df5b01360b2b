"""A log that begins again with the ids of the old one is told from it: a gap, then all of it.

Its entries were taken for those that viewers had, and only what was above them was delivered.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest

from tidegate.core.records import Page, Relay, StreamInfo
from tidegate.core.ring import Ring, RingBudget
from tidegate.core.topic import Deliver, Effect, ReadAfter, Topic, TopicRules
from tidegate.model.entries import RawEntry, TerminalRules
from tidegate.model.frames import GapReason
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id

OLD, NEW = range(1, 4), range(1, 5)


def raws(numbers: Iterable[int]) -> list[RawEntry]:
    return [RawEntry(b"%d-0" % n, [b"message", b'{"data":%d}' % n]) for n in numbers]


def info(numbers: Sequence[int], added: int | None = None) -> StreamInfo:
    ids = [StreamId(n, 0) for n in numbers]
    first, last = (ids[0], ids[-1]) if ids else (ZERO, ZERO)
    return StreamInfo(
        exists=True,
        first=first,
        last=last,
        length=len(ids),
        added=len(ids) if added is None else added,
    )


def page(numbers: Sequence[int], after: StreamId | None, *, registered: bool | None = None) -> Page:
    newer = [n for n in numbers if after is None or StreamId(n, 0) > after]
    return Page(info(numbers), raws(newer), more=False, after=after, registered=registered)


@pytest.fixture
def topic() -> Topic:
    """Attached to a log of three entries."""
    topic = Topic(
        OperationId("42"),
        Ring(9, 9999, RingBudget(9999)),
        TopicRules(TerminalRules(), frozenset()),
    )
    topic.page(page(OLD, None, registered=True))
    assert topic.last == StreamId(3, 0)
    return topic


def created(numbers: Sequence[int]) -> Relay:
    return Relay(b"pod", b"", raws(numbers), created=True, added=len(numbers))


def settle(topic: Topic, effects: Sequence[Effect], log: Sequence[int]) -> list[object]:
    """What viewers get, with the reads answered from this log."""
    got: list[object] = []
    queue = list(effects)
    while queue:
        match queue.pop(0):
            case Deliver(frames=frames, gap=gap):
                got += [gap] if gap else [json.loads(f.payload)["data"] for f in frames]
            case ReadAfter(after):
                queue += topic.page(page(log, after))
    return got


EXPECTED = [GapReason.RECREATED, *NEW]


def test_when_the_group_was_made_anew_with_its_first_entries(topic: Topic) -> None:
    assert settle(topic, topic.relay(created(NEW)), NEW) == EXPECTED
    assert topic.epoch == 1


def test_when_it_is_no_longer_than_the_old_one(topic: Topic) -> None:
    assert settle(topic, topic.relay(created(OLD)), OLD) == [GapReason.RECREATED, *OLD]


def test_when_an_attach_has_made_the_group(topic: Topic) -> None:
    relay = created([])
    relay.by_attach = True
    assert settle(topic, topic.relay(relay), NEW) == EXPECTED


def test_when_it_was_seen_to_be_missing(topic: Topic) -> None:
    (look,) = topic.seen(b"")
    assert isinstance(look, ReadAfter)
    topic.page(Page(StreamInfo(), [], more=False, after=look.after))
    assert settle(topic, topic.seen(b"4-0"), NEW) == EXPECTED


def test_when_the_group_was_made_anew_while_a_page_was_on_its_way(topic: Topic) -> None:
    (look,) = topic.verify()
    assert isinstance(look, ReadAfter)
    assert topic.relay(created(NEW)) == ()
    assert settle(topic, topic.page(page(NEW, look.after)), NEW) == EXPECTED


def test_when_the_proof_came_just_before_the_link_was_lost(topic: Topic) -> None:
    topic.relay(created(NEW))
    topic.detached()
    assert topic.resume_after == ZERO
    assert settle(topic, topic.page(page(NEW, ZERO)), NEW) == EXPECTED


def test_when_our_consumer_was_gone_after_the_link_was_lost(topic: Topic) -> None:
    topic.detached()
    after = topic.resume_after
    assert settle(topic, topic.page(page(NEW, after, registered=True)), NEW) == EXPECTED


def test_when_fewer_entries_were_ever_added(topic: Topic) -> None:
    """Three were seen, and trimmed to the last; the new log has the last one only."""
    (look,) = topic.verify()
    assert isinstance(look, ReadAfter)
    assert settle(topic, topic.page(page([3], look.after)), [3]) == [GapReason.RECREATED, 3]


def test_when_it_begins_before_the_first_entry(topic: Topic) -> None:
    (look,) = topic.verify()
    assert isinstance(look, ReadAfter)
    other = info([3, 4], added=4)._replace(first=StreamId(0, 5))
    effects = topic.page(Page(other, raws([3, 4]), more=False, after=look.after))
    assert effects == (ReadAfter(ZERO, effects[0].cause),)  # type: ignore[union-attr]


def test_an_attach_anew_to_the_same_log_repeats_nothing(topic: Topic) -> None:
    topic.detached()
    assert settle(topic, topic.page(page(NEW, topic.resume_after)), NEW) == [4]
    assert topic.gaps == 0


def test_a_group_that_others_make_for_the_first_time_is_no_proof() -> None:
    topic = Topic(
        OperationId("42"),
        Ring(9, 9999, RingBudget(9999)),
        TopicRules(TerminalRules(), frozenset()),
    )
    topic.page(Page(StreamInfo(), [], more=False, after=None))
    assert settle(topic, topic.relay(created([1, 2])), [1, 2]) == [1, 2]
    assert topic.gaps == 0


def test_after_the_gap_it_is_followed_like_any_other(topic: Topic) -> None:
    settle(topic, topic.relay(created(NEW)), NEW)
    relay = Relay(b"pod", b"4-0", raws([5]), created=False, added=None)
    assert settle(topic, topic.relay(relay), range(1, 6)) == [5]
    topic.detached()
    assert settle(topic, topic.page(page(range(1, 7), topic.resume_after)), range(1, 7)) == [6]
    assert topic.gaps == 1


NOW_MS = 1_795_413_516_350


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"data":3}', [4]),
        (b'{"data":"other"}', [GapReason.RECREATED, 1, "other", 4]),
    ],
    ids=["the same entry", "another one"],
)
@pytest.mark.parametrize("by", ["relay", "attach"])
def test_with_ids_of_the_server_the_last_entry_tells_a_destroyed_group_from_another_log(
    by: str, text: bytes, expected: list[object]
) -> None:
    def entry(number: int, said: bytes = b"") -> RawEntry:
        return RawEntry(b"%d-0" % (NOW_MS + number), [b"message", said or b'{"data":%d}' % number])

    def read(entries: list[RawEntry], after: StreamId | None, **given: bool) -> Page:
        found = StreamInfo(
            exists=True,
            first=stream_id(entries[0].id),
            last=stream_id(entries[-1].id),
            length=len(entries),
            added=len(entries),
        )
        newer = [one for one in entries if after is None or stream_id(one.id) > after]
        return Page(found, newer, more=False, after=after, **given)

    topic = Topic(
        OperationId("42"),
        Ring(9, 9999, RingBudget(9999)),
        TopicRules(TerminalRules(), frozenset()),
    )
    topic.page(read([entry(1), entry(3)], None, registered=True))
    log = [entry(1), entry(3, text), entry(4)]
    if by == "relay":
        queue = list(topic.relay(Relay(b"pod", b"", log, created=True, added=3)))
    else:
        topic.detached()
        queue = list(topic.page(read(log, topic.resume_after, registered=True)))
    got: list[object] = []
    while queue:
        match queue.pop(0):
            case Deliver(frames=frames, gap=gap):
                got += [gap] if gap else [json.loads(f.payload)["data"] for f in frames]
            case ReadAfter(after):
                queue += topic.page(read(log, after))
    assert got == expected
