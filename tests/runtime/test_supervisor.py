"""The supervisor and workers that hang, die together or say what cannot be understood: real
channels, and the test in the place of the processes.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.harness.waiting import until
from tidegate.model.settings import Settings
from tidegate.runtime import worker_process
from tidegate.runtime.listening import WorkersPort
from tidegate.runtime.supervisor import Supervisor
from tidegate.runtime.worker_channel import (
    UNREAD_MAX_BYTES,
    Died,
    Leased,
    Message,
    Request,
    Response,
    Scrape,
    Scraped,
    Serving,
    WorkerChannel,
)
from tidegate.runtime.worker_process import WorkerProcess
from tidegate.telemetry.metric_merge import FamilyRecord, SampleRecord
from tidegate.web.admin.workers import AdminRequest

GATEWAY = AdminRequest("GET", "/debug/gateway", b"/debug/gateway", b"", [])
HEALTH = AdminRequest("GET", "/healthz", b"/healthz", b"", [])
KILLED = -9


class Process:
    """What the supervisor sees of one: killed when the test says so."""

    def __init__(self) -> None:
        self.returncode: int | None = None

    async def wait(self) -> int:
        return KILLED

    def kill(self) -> None:
        self.returncode = KILLED


class Worker:
    """The other side of a channel."""

    def __init__(self, number: int, ours: WorkerChannel, theirs: WorkerChannel) -> None:
        self.number = number
        self.known = WorkerProcess(number, cast("Any", Process()), ours)
        self.channel = theirs
        self.heard: list[Message] = []
        #: Answers nothing and reads nothing meanwhile.
        self.runs = asyncio.Event()
        self.runs.set()
        self.families: list[Any] | None = []

    def died(self) -> list[list[str]]:
        return [one.incarnations for one in self.heard if isinstance(one, Died)]

    async def run(self) -> None:
        self.channel.send(Serving())
        self.channel.send(Leased(f"gate/{self.number}.1"))
        while True:
            await self.runs.wait()
            message = await self.channel.receive()
            if message is None:
                return
            await self.runs.wait()
            self.heard.append(message)
            if isinstance(message, Request):
                self.channel.send(Response(message.id, 200, [], str(self.number).encode()))
            elif isinstance(message, Scrape):
                self.channel.send(Scraped(message.id, self.families))


@asynccontextmanager
async def running(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Supervisor, list[Worker]]]:
    """A supervisor whose workers are the test's."""
    settings = Settings.model_validate({"server": {"pod": "gate", "workers": number}})
    supervisor = Supervisor(settings)
    workers = []
    for one in range(1, number + 1):
        ours, theirs = socket.socketpair()
        workers.append(
            Worker(one, await WorkerChannel.open(ours), await WorkerChannel.open(theirs))
        )

    async def start(_: Settings, number: int, __: WorkersPort) -> WorkerProcess:
        return workers[number - 1].known

    monkeypatch.setattr(WorkerProcess, "start", start)
    nowhere = cast("WorkersPort", None)
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    tasks += [
        asyncio.create_task(cast("Any", supervisor._run_one(worker.number, nowhere)))
        for worker in workers
    ]
    try:
        await until(lambda: supervisor.has_been_complete, "all serve")
        await until(lambda: all(one.known.incarnations for one in workers), "all have a lease")
        yield supervisor, workers
    finally:
        for worker in workers:
            worker.runs.set()
            worker.channel.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_one_that_hangs_is_waited_for_once_and_others_answer_in_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "ANSWER_S", 0.05)
    monkeypatch.setattr(worker_process, "SILENT_S", 0.01)
    async with running(2, monkeypatch) as (supervisor, (first, _)):
        first.runs.clear()
        answers = await supervisor.ask_each(HEALTH)
        assert [answer is None for answer in answers.values()] == [True, False]
        answer = await supervisor.ask_one(GATEWAY)
        assert answer is not None
        assert answer.body == b"2"
        first.runs.set()
        await until(lambda: not first.known.is_silent, "it has spoken")
        answer = await supervisor.ask_one(GATEWAY)
        assert answer is not None
        assert answer.body == b"1"


async def test_what_waits_on_redis_may_take_longer_than_what_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The worker's own answer, that Redis did not respond, came too late."""
    monkeypatch.setattr(worker_process, "ANSWER_S", 0.01)
    async with running(2, monkeypatch) as (supervisor, (first, _)):
        first.runs.clear()
        asking = asyncio.create_task(supervisor.ask_one(GATEWAY))
        await supervisor.ask_each(HEALTH)
        assert not asking.done()
        first.runs.set()
        answer = await asking
        assert answer is not None
        assert answer.body == b"1"


async def test_one_that_reads_nothing_is_asked_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "ANSWER_S", 0.001)
    monkeypatch.setattr(worker_process, "SILENT_S", 0.001)
    request = HEALTH._replace(headers=[(b"x", b"x" * 100_000)])
    async with running(2, monkeypatch) as (supervisor, (first, second)):
        first.runs.clear()
        while not first.known._channel.is_full:
            await supervisor.ask_each(request)
        asked = len(second.heard)
        for _ in range(10):
            await supervisor.ask_each(request)
        await until(lambda: len(second.heard) == asked + 10, "the other is still asked")
        waiting = first.known._channel._writer.transport.get_write_buffer_size()
        assert waiting < UNREAD_MAX_BYTES + 200_000


async def test_the_lease_of_a_dead_worker_is_ended_although_another_one_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(3, monkeypatch) as (_, (first, second, third)):
        first.runs.clear()
        third.channel.close()
        await until(lambda: second.died() == [["gate/3.1"]], "it is told of the dead one")
        second.channel.close()
        first.runs.set()
        expected = [["gate/3.1"], ["gate/3.1", "gate/2.1"]]
        await until(lambda: first.died() == expected, "of both: the second may have done nothing")


async def test_one_that_cannot_be_understood_is_replaced_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(2, monkeypatch) as (supervisor, (first, second)):
        first.channel._writer.write(b"\0\0\0\1\xc1")
        await until(lambda: second.died() == [["gate/1.1"]], "it is taken for dead")
        assert list(await supervisor.ask_each(HEALTH)) == [2]


async def test_one_that_cannot_tell_its_metrics_counts_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(2, monkeypatch) as (supervisor, (first, _)):
        await supervisor.metrics()
        first.families = None
        await supervisor.metrics()
        assert sorted(supervisor._metrics._last) == [1, 2]


async def test_one_that_hangs_for_long_is_killed_and_the_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker_process, "ANSWER_S", 0.1)
    monkeypatch.setattr(worker_process, "WATCH_S", 0.05)
    monkeypatch.setattr(worker_process, "HANG_S", 2.0)
    async with running(2, monkeypatch) as (_, (first, second)):
        first.runs.clear()
        process = first.known.process
        await until(lambda: process.returncode == KILLED, "it is killed")
        assert second.known.process.returncode is None


async def test_connections_of_the_admin_port_are_those_of_the_supervisor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    labels = {"port": "admin"}
    nothing = FamilyRecord(
        "tidegate_sockets", "gauge", "", [SampleRecord("tidegate_sockets", labels, 0)]
    )
    async with running(2, monkeypatch) as (supervisor, workers):
        for worker in workers:
            worker.families = [nothing]
        supervisor._admin_port.take_in(3)
        supervisor._admin_port.refusals["bad_request"] += 2
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in (await supervisor.metrics()).collect()
            for sample in family.samples
        }
    assert found["tidegate_sockets", "admin"] == 1
    assert found["tidegate_refusals_total", "admin_port"] == 2
