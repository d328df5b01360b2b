"""Surveys without Redis: who is waited for, what is ignored, what is shared and limited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import msgspec
import pytest

from tidegate.core.survey import (
    OperationReport,
    OperationSurveyRequest,
    ReplicaReport,
    Report,
    ReportedFigures,
    Request,
    SurveyRequest,
    ViewerCounts,
)
from tidegate.gateway.surveys import ANSWERED_BURST, ASKED_BURST, DEADLINE_S, SurveyResult, Surveys
from tidegate.model.errors import Overloaded, RedisUnavailable
from tidegate.model.operation_order import OperationOrder
from tidegate.redis.control import Control
from tidegate.redis.pods import PodRecord, Pods

ORDER = OperationOrder.VIEWERS


class Channel:
    """What connects all: a message reaches everybody, an answer the one with this name."""

    def __init__(self) -> None:
        self.peers: list[Peer] = []
        self.requests: list[Request] = []
        self.is_away = False
        #: What is sent to the one who asked before anybody answers.
        self.injected: Callable[[Request], list[bytes]] = lambda _: []


class Peer:
    """One replica: fakes of its control channel, its leases and its reporter."""

    def __init__(self, channel: Channel, name: str, *, listens: bool = True) -> None:
        self.channel = channel
        self.name = self.incarnation = name
        self.listens = listens
        self.has_lease = True
        self.reply_to = format(len(channel.peers), "024x")
        self.reports = 0
        self.now = 0.0
        self.tasks: set[asyncio.Task[None]] = set()
        self.surveys = Surveys(
            name,
            control=cast("Control", self),
            pods=cast("Pods", self),
            reporter=self,
            spawn=self.spawn,
            clock=lambda: self.now,
        )
        channel.peers.append(self)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def publish(self, request: Request) -> int:
        if self.channel.is_away:
            raise RedisUnavailable("away")
        self.channel.requests.append(request)
        for payload in self.channel.injected(request):
            self.surveys.replied(payload)
        for peer in self.channel.peers:
            if peer.listens:
                peer.surveys.heard(request)
        return len(self.channel.peers)

    async def reply(self, reply_to: str, payload: bytes) -> int:
        asking = [peer for peer in self.channel.peers if peer.reply_to == reply_to]
        for peer in asking:
            peer.surveys.replied(payload)
        return len(asking)

    async def roster(self) -> list[PodRecord]:
        if self.channel.is_away:
            raise RedisUnavailable("away")
        return [PodRecord(peer.name, 15_000, {}) for peer in self.channel.peers if peer.has_lease]

    async def report(self, request: Request) -> Report:
        self.reports += 1
        if isinstance(request, SurveyRequest):
            return ReplicaReport(
                request.id,
                "-",
                ReportedFigures(version=self.name),
                ViewerCounts(),
                *(0, 0, ()),
                *(0, ()),
            )
        return OperationReport(request.id, "-", followed=True, status=self.name)


@pytest.fixture
def channel() -> Channel:
    return Channel()


def answered(result: SurveyResult) -> dict[str, bool]:
    return {one.record.incarnation: one.report is not None for one in result.replicas}


async def test_all_replicas_answer_the_one_that_asks(channel: Channel) -> None:
    a, b, c = (Peer(channel, name) for name in "abc")
    result = await b.surveys.ask(ORDER, "imp", "")
    assert answered(result) == {"b": True, "a": True, "c": True}
    assert result.replicas[0].record.incarnation == "b"  # itself first
    for one in result.replicas:
        assert isinstance(one.report, ReplicaReport)
        assert one.report.incarnation == one.report.figures.version == one.record.incarnation
    assert [peer.reports for peer in (a, b, c)] == [1, 1, 1]
    opened = await a.surveys.ask_operation("42")
    statuses = [getattr(found.report, "status", None) for found in opened.replicas]
    assert statuses == ["a", "b", "c"]
    assert (result.redis_error, result.omitted) == (None, 0)


async def test_who_does_not_answer_is_shown_as_such(channel: Channel) -> None:
    """After the deadline, in virtual time."""
    a, _, _ = Peer(channel, "a"), Peer(channel, "b", listens=False), Peer(channel, "c")
    loop = asyncio.get_running_loop()
    began = loop.time()
    result = await a.surveys.ask(ORDER, "", "")
    assert answered(result) == {"a": True, "b": False, "c": True}
    assert loop.time() - began == pytest.approx(DEADLINE_S, abs=0.05)
    # Its answer, later, is of no survey any more.
    a.surveys.replied(late(channel.requests[0], "b"))
    assert a.surveys.counts["unexpected"] == 1


def late(request: Request, incarnation: str) -> bytes:
    return msgspec.json.encode(OperationReport(request.id, incarnation, followed=False))


async def test_answers_of_strangers_and_second_ones_are_dropped(channel: Channel) -> None:
    a, b = Peer(channel, "a"), Peer(channel, "b")
    stranger = Peer(Channel(), "x")

    def inject(request: Request) -> list[bytes]:
        other = late(OperationSurveyRequest("f" * 24, "0" * 24, "42"), "b")
        return [b"{", b"\xff", b"[" * 60_000, late(request, "x"), late(request, "a"), other]

    channel.injected = inject
    result = await a.surveys.ask(ORDER, "", "")
    assert answered(result) == {"a": True, "b": True}
    assert a.surveys.counts == {"asked": 1, "unreadable": 3, "unexpected": 3, "replies": 1}
    assert stranger.reports == 0
    # A request of a stranger is answered to nobody.
    b.surveys.heard(SurveyRequest("1" * 24, "e" * 24))
    await asyncio.gather(*b.tasks)
    assert b.surveys.counts["unheard"] == 1


async def test_twenty_who_ask_the_same_cost_each_replica_one_report(channel: Channel) -> None:
    peers = [Peer(channel, f"r{n}") for n in range(20)]
    results = await asyncio.gather(*(peer.surveys.ask(ORDER, "", "") for peer in peers))
    assert all(set(answered(result).values()) == {True} for result in results)
    assert [peer.reports for peer in peers] == [1] * 20
    for peer in peers:
        peer.now += 10.0
    await peers[0].surveys.ask(ORDER, "", "")
    assert peers[1].reports == 2


async def test_one_that_asks_too_often_is_refused(channel: Channel) -> None:
    a, b = Peer(channel, "a"), Peer(channel, "b")
    for _ in range(ASKED_BURST):
        await a.surveys.ask(ORDER, "", "")
    with pytest.raises(Overloaded, match="surveys per second"):
        await a.surveys.ask(ORDER, "", "")
    a.now += 1.0
    await a.surveys.ask_operation("42")
    assert b.surveys.counts["answered"] == ASKED_BURST + 1


async def test_a_flood_of_requests_is_not_answered(channel: Channel) -> None:
    a, _ = Peer(channel, "a"), Peer(channel, "b")
    for number in range(1_000):
        a.surveys.heard(SurveyRequest(format(number, "024x"), "e" * 24, search=str(number)))
    assert len(a.tasks) == ANSWERED_BURST
    await asyncio.gather(*a.tasks)
    assert a.surveys.counts["refused"] == 1_000 - ANSWERED_BURST


async def test_without_redis_it_shows_itself_and_says_why(channel: Channel) -> None:
    a, _ = Peer(channel, "a"), Peer(channel, "b")
    channel.is_away = True
    result = await a.surveys.ask(ORDER, "", "")
    assert answered(result) == {"a": True}
    assert result.redis_error == "away"


async def test_more_replicas_than_can_be_listed_are_counted(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tidegate.gateway.surveys.REPLICAS_MAX", 2)
    peers = [Peer(channel, name) for name in "abcd"]
    result = await peers[3].surveys.ask(ORDER, "", "")
    assert answered(result) == {"d": True, "a": True}
    assert result.omitted == 2


async def test_a_replica_whose_lease_has_lapsed_still_shows_itself(channel: Channel) -> None:
    a, _ = Peer(channel, "a"), Peer(channel, "b")
    a.has_lease = False
    result = await a.surveys.ask(ORDER, "", "")
    assert answered(result) == {"a": True, "b": True}
