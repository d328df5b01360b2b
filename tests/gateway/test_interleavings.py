"""Whatever happens in whatever order: each viewer gets each entry exactly once, in order, or is
told what it does not get.

Writers, readers, joins, a link that loses, a Redis that goes and comes back, reads that take their
time: drawn at random and run on small bounds, so that passes have many turns, reads many pages, and
buffers fill all the time. In the end the harm ends, and then everything must have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.fake_socket import FakeSocket
from tests.gateway.stage import OPERATION, Stage, ask_for
from tests.harness.clock import run
from tests.harness.examples import examples
from tests.harness.viewer import Json, position
from tidegate.gateway import catchup, fanout, outbox
from tidegate.gateway.viewer import ViewerState
from tidegate.model.batch import Batch
from tidegate.model.errors import RedisUnavailable
from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO

Step = tuple[str, Any]
ANSWER = Batch([Frame(ZERO, b'{"type":"pong","pad":"%b"}' % (b"x" * 500), FrameKind.CONTROL)])
LONG_S = 30.0  # longer than any pause between two attempts

WRITING: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("write"), st.integers(1, 8)),
    st.tuples(st.just("log"), st.integers(1, 3)),
    st.tuples(st.just("tokens"), st.integers(1, 12)),
    st.tuples(st.just("tokens"), st.integers(1, 12)),
    st.tuples(st.just("quietly"), st.integers(1, 3)),
    st.tuples(st.just("lose_relay"), st.none()),
    st.tuples(st.just("sweep"), st.none()),
]
WATCHING: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("join"), st.none() | st.integers(0, 12)),
    st.tuples(st.just("resume"), st.integers(0, 40)),
    st.tuples(st.just("stick"), st.integers(0, 9)),
    st.tuples(st.just("read"), st.tuples(st.integers(0, 9), st.none() | st.integers(0, 3))),
    st.tuples(st.just("say"), st.integers(0, 9)),
    st.tuples(st.just("vanish"), st.integers(0, 9)),
]
HARM: list[st.SearchStrategy[Step]] = [
    st.tuples(st.just("hold"), st.booleans()),
    st.tuples(st.just("arrive"), st.integers(1, 5)),
    st.tuples(st.just("away"), st.booleans()),
    st.tuples(st.just("answers"), st.booleans()),
    st.tuples(st.just("rounds"), st.integers(1, 4)),
    st.tuples(st.just("time"), st.sampled_from([0.001, 0.1, 1.0])),
]
TRIMS: list[st.SearchStrategy[Step]] = [st.tuples(st.just("trim"), st.integers(1, 12))]
#: Viewers that are there from the start: more than a turn writes to.
FIRST = st.integers(0, 7)


def steps(*groups: list[st.SearchStrategy[Step]]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.one_of([step for group in groups for step in group]), max_size=60)


class Play:
    """Carries out steps, and knows all that was written."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.redis = stage.redis
        self.written: list[str] = []
        self.types: dict[str, str] = {}
        self.sockets: list[FakeSocket] = []
        #: What each asked for, and what there was by then.
        self.asked: dict[FakeSocket, int | None] = {}
        self.known: dict[FakeSocket, set[str]] = {}
        self.resumed: set[FakeSocket] = set()
        self.joining: list[asyncio.Task[FakeSocket]] = []

    def write(self, count: int, type_: str, *, quietly: bool = False) -> None:
        for _ in range(count):
            write = self.redis.quietly if quietly else self.redis.write
            data = {"text": f"<{len(self.written)}>"} if type_ == "append" else {"pad": "x" * 40}
            entry_id = write("42", type_, **data)
            self.written.append(entry_id)
            self.types[entry_id] = type_

    def join(self, *, history: int | None = None, after: str | None = None) -> None:
        socket = FakeSocket(high=600, low=150)
        self.sockets.append(socket)
        self.asked[socket] = history
        self.known[socket] = set(self.written)
        if after is not None:
            self.resumed.add(socket)
        if not self.stage.hub.join(OPERATION, socket, ask_for(after=after, history=history)):
            watching = self.stage.watch(socket=socket, history=history, after=after)
            self.joining.append(asyncio.create_task(watching))

    async def take(self, step: Step) -> None:
        what, value = step
        match what:
            case "write":
                self.write(value, "progress")
            case "log":
                self.write(value, "log")
            case "tokens":
                self.write(value, "append")
            case "quietly":
                self.write(value, "progress", quietly=True)
            case "lose_relay":
                self.redis.lose_relay("42")
            case "sweep":
                self.redis.ring("42")
            case "join":
                self.join(history=value)
            case "resume":
                ids = ["0-0", *self.written]
                self.join(after=ids[value % len(ids)])
            case "hold":
                self.redis.hold = value
            case "arrive":
                self.redis.arrive(value)
            case "away" if value and not self.redis.is_away:
                self.redis.lose()
            case "away" if not value and self.redis.is_away:
                self.redis.come_back()
            case "answers":
                self.redis.answers.set() if value else self.redis.answers.clear()
            case "rounds":
                for _ in range(value):
                    await asyncio.sleep(0)
            case "time":
                await asyncio.sleep(value)
            case "trim":
                self.redis.trim("42", value)
            case _ if self.sockets:
                self._viewer_does(what, value)

    def _viewer_does(self, what: str, value: Any) -> None:
        number, reads = value if what == "read" else (value, None)
        socket = self.sockets[number % len(self.sockets)]
        if what == "say":  # what answers it goes over the same socket
            if socket.frames and socket.writable:
                socket.write(ANSWER)
        elif what == "stick":
            socket.stick()
        elif what == "read":
            socket.read(reads)
        elif what == "vanish":
            self.sockets.remove(socket)
            socket.vanish()

    async def end_of_harm(self) -> None:
        if self.redis.is_away:
            self.redis.come_back()
        self.redis.hold = False
        self.redis.answers.set()
        self.redis.arrive()
        for socket in self.sockets:
            socket.read()
        await asyncio.sleep(LONG_S)
        self.redis.ring("42")
        await asyncio.sleep(LONG_S)
        for task in self.joining:
            assert task.done(), "a join that never ends"
            assert isinstance(task.exception(), RedisUnavailable | None)

    def check(self, *, may_skip: bool, may_gap: bool) -> None:
        for socket in self.sockets:
            if socket.listener is None:
                continue  # its join was refused while Redis was away
            assert self.stage.state_of(socket) is ViewerState.LIVE
            assert may_gap or socket.gaps == []
            self._check_complete(socket, may_skip=may_skip)
            told = [kind for kind in socket.types if kind in ("stale", "live")]
            assert told == ["stale", "live"] * (len(told) // 2)
        assert self.stage.channel().stats().outbox == 0 if self.sockets else True
        assert self.stage.reading == 0

    def _check_complete(self, socket: FakeSocket, *, may_skip: bool) -> None:
        """Nothing between its cursor and the end is missing without a word."""
        state, asked = socket.frames[0], self.asked[socket]
        cursor = position(state["cursor"])
        due = [entry_id for entry_id in self.written if position(entry_id) > cursor]
        sent, available = state["history"]["sent"], state["history"]["available"]
        if socket not in self.resumed:
            assert sent == (available if asked is None else min(asked, available))
        history = self.known[socket] & set(due if sent is None else due[:sent])
        at, free = 0, False
        for frame in socket.frames[1:]:
            if frame["type"] == "gap":
                before = frame["data"].get("before")
                at, free = (at, True) if before is None else (due.index(before), False)
            elif frame["type"] == "skipped":
                count = frame["data"]["count"]
                assert may_skip
                assert {self.types[i] for i in due[at : at + count]} == {"progress"}
                assert not set(due[at : at + count]) & history, "never conflated"
                at += count
            elif "id" in frame:
                count = frame.get("joined", 1)
                at = due.index(frame["id"], at) - count + 1 if free else at
                assert frame["id"] == due[at + count - 1]
                self._check_text(frame, due[at : at + count])
                at, free = at + count, False
        assert at == len(due), f"{due[at:]} are missing"

    def _check_text(self, frame: Json, entries: Sequence[str]) -> None:
        """A frame that stands for these has their texts."""
        assert {self.types[one] for one in entries} == {frame["type"]}
        if frame["type"] == "append":
            texts = [f"<{self.written.index(one)}>" for one in entries]
            assert frame["data"] == {"text": "".join(texts)}
        else:
            assert len(entries) == 1


def play(script: Sequence[Step], *, policy: str, first: int, may_gap: bool = False) -> None:
    async def main() -> None:
        small = {"ring_entries": 6, "linger_s": 3600}
        async with Stage(page_entries=4, topic=small, viewer={"lagging_policy": policy}) as stage:
            play = Play(stage)
            for _ in range(first):
                play.join()
            await asyncio.sleep(1)
            for step in script:
                await play.take(step)
            await play.end_of_harm()
            play.check(may_skip=policy == "conflate", may_gap=may_gap)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fanout, "WRITES_PER_TURN", 2)
        patch.setattr(outbox, "ITEM_MAX_BYTES", 300)
        patch.setattr(catchup, "WRITE_MAX_BYTES", 300)
        run(main())


@settings(max_examples=examples(300))
@given(steps(WRITING, WATCHING, HARM), FIRST)
def test_with_replay_each_viewer_gets_every_entry(script: list[Step], first: int) -> None:
    play(script, policy="replay", first=first)


@settings(max_examples=examples(300))
@given(steps(WRITING, WATCHING, HARM), FIRST)
def test_with_conflate_only_progress_is_skipped_and_counted(script: list[Step], first: int) -> None:
    play(script, policy="conflate", first=first)


@settings(max_examples=examples(300))
@given(steps(WRITING, WATCHING, HARM, TRIMS), FIRST, st.sampled_from(["replay", "conflate"]))
def test_what_was_trimmed_away_is_announced(script: list[Step], first: int, policy: str) -> None:
    play(script, policy=policy, first=first, may_gap=True)
