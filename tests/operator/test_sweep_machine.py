"""The sweep against a model, over a real server: whatever backends, pods, other operators and late
commands do, a running stream is never expired, and one that has ended has a TTL after one sweep.

Time passes without waiting, at most until the next sweep is due. What the model promises to
backends is in `Stream.is_safe`: once a sweep has seen a stream run, nothing but its own end, its
publisher's own TTL, or a day of silence without viewers may make it go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.harness.backend import GROUP, PREFIX
from tests.harness.examples import examples
from tests.operator.sweeping import (
    DAY_S,
    HOUR_S,
    Streamer,
    arrive,
    held_back,
    let_time_pass,
    live,
    spec,
    sweeping,
)
from tests.servers import binaries
from tests.servers.standalone import Server
from tidegate_operator.redis import lua
from tidegate_operator.redis.primary import Call
from tidegate_operator.redis.rate_limiter import Fenced
from tidegate_operator.redis.sweep import StreamSweeper

NAMES = ("a", "b", "c")
PODS = ("pod-1", "pod-2")
EXAMPLES = examples(25)
SPEC = spec(trim={"finished_entries": 3})
KEPT_S = {"completed": HOUR_S, "cancelled": HOUR_S, "failed": DAY_S}

WHICH = st.sampled_from(NAMES)
POD = st.sampled_from(PODS)


class Stream:
    """What the model knows about one."""

    def __init__(self) -> None:
        self.end: str | None = None
        self.age_s = 0.0
        #: Pods that are attached, dead ones among them.
        self.pods: set[str] = set()
        #: What is left of a TTL that the publisher has set.
        self.own_ttl_s: float | None = None
        #: A sweep has seen it run, and no reason to go has come since.
        self.is_safe = False


class SweepMachine(RuleBasedStateMachine):
    """One run; the server is shared and wiped."""

    server: Server
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client()
        self.backend = Streamer(self.client)
        self.streams: dict[str, Stream] = {}
        self.alive: set[str] = set(PODS)
        self.late: list[Call] = []
        self.fence = 10**9
        self._opened = sweeping(self.server.url, may_continue=self._may_continue)
        self.sweep: StreamSweeper = self.do(self._opened.__aenter__())

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.do(self._opened.__aexit__(None, None, None))
        self.do(self.client.aclose())

    def _may_continue(self) -> bool:
        self.fence -= 1
        return self.fence >= 0

    @initialize()
    def begin(self) -> None:
        self.do(self.server.wipe())

    # -- backends ----------------------------------------------------------------------------------

    def _written(self, name: str) -> Stream:
        stream = self.streams.setdefault(name, Stream())
        stream.age_s = 0.0
        return stream

    @rule(name=WHICH, count=st.integers(1, 4))
    def publish(self, name: str, count: int) -> None:
        """A plain XADD, which makes an expired stream anew."""
        self.do(self.backend.publish_many(name, count))
        stream = self._written(name)
        if stream.end is not None:
            stream.end, stream.is_safe = None, False

    @rule(name=WHICH, status=st.sampled_from(list(KEPT_S)))
    def finish(self, name: str, status: str) -> None:
        self.do(self.backend.ended(name, status=status))
        stream = self._written(name)
        stream.end, stream.is_safe = status, False

    @rule(name=WHICH, ttl_s=st.sampled_from([300, 2 * HOUR_S]))
    def expire(self, name: str, ttl_s: int) -> None:
        """The publisher keeps house itself."""
        if self.do(self.client.expire(PREFIX + name, ttl_s)):
            self.streams[name].own_ttl_s = ttl_s

    @rule(name=WHICH)
    def delete(self, name: str) -> None:
        self.do(self.backend.delete(name))
        self.streams.pop(name, None)

    # -- pods --------------------------------------------------------------------------------------

    @rule(name=WHICH, pod=POD)
    def attach(self, name: str, pod: str) -> None:
        if name in self.streams and pod in self.alive:
            self.do(self.backend.watch(name, pod))
            self.streams[name].pods.add(pod)
            # One that is to remove a dead pod of this name finds it fresh: here nobody ever is, see
            # `test_a_late_removal_does_not_meet_a_pod_of_the_same_name`.
            self.late = [call for call in self.late if not _removes(call, name, pod)]

    @rule(name=WHICH, pod=POD)
    def detach(self, name: str, pod: str) -> None:
        stream = self.streams.get(name)
        if stream and pod in stream.pods and pod in self.alive:
            self.do(self.client.xgroup_delconsumer(PREFIX + name, GROUP, pod))
            stream.pods.discard(pod)
            stream.is_safe = stream.is_safe and stream.age_s < DAY_S

    @rule(pod=POD)
    def kill(self, pod: str) -> None:
        """Its consumers stay. It comes back under the same name, and attaches anew."""
        if pod not in self.alive:
            self.alive.add(pod)
            return
        self.alive.discard(pod)
        for stream in self.streams.values():
            if stream.age_s >= DAY_S and not self._is_watched(stream):
                stream.is_safe = False

    def _is_watched(self, stream: Stream) -> bool:
        return bool(stream.pods & self.alive)

    # -- time --------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([50.0, 250.0]))
    def time_passes(self, seconds: float) -> None:
        """Less than from one sweep to the next. Of a TTL of 300 s this leaves nothing or 50 s, and
        no machine takes so long for an example.
        """
        self._pass(seconds)

    @rule(seconds=st.sampled_from([700.0, HOUR_S + 1, DAY_S + 1, 3 * DAY_S]))
    def much_time_passes(self, seconds: float) -> None:
        """With sweeps in it as often as they come, at the beginning and at the end."""
        self._sweep()
        while seconds > 0:
            piece = min(seconds, max(250.0, seconds / 4))
            self._pass(piece)
            self._sweep()
            seconds -= piece

    def _pass(self, seconds: float) -> None:
        for stream in self.streams.values():
            stream.age_s += seconds
            if stream.own_ttl_s is not None:
                stream.own_ttl_s -= seconds
            if stream.end is None and stream.age_s >= DAY_S and not self._is_watched(stream):
                stream.is_safe = False
        self.do(let_time_pass(self.client, seconds))
        for name in [one for one in self.streams if not self.do(self.backend.exists(one))]:
            stream = self.streams.pop(name)
            note(f"{name} has expired")
            if stream.own_ttl_s is None or stream.own_ttl_s > 1:
                assert not stream.is_safe, f"{name} was running"

    # -- sweeps ------------------------------------------------------------------------------------

    def _pods_renew(self) -> None:
        self.do(live(self.client, *sorted(self.alive)))
        self.sweep.leases._until = 0.0

    @rule()
    def sweep_all(self) -> None:
        self._sweep()

    def _sweep(self) -> None:
        self._pods_renew()
        self.fence = 10**9
        self.sweep.forget()
        report = self.do(self.sweep.round(SPEC))
        assert report.streams == len(self.streams)
        assert not report.tally.left["refused"]
        for name, stream in self.streams.items():
            ttl_s = self.do(self.backend.ttl_s(name))
            self._check(name, stream, ttl_s)
        for pod in set(PODS) - self.alive:
            for stream in self.streams.values():
                stream.pods.discard(pod)

    def _check(self, name: str, stream: Stream, ttl_s: float | None) -> None:
        consumers = set(self.do(self._consumers(name)))
        assert consumers == stream.pods & self.alive, name
        quiet = stream.age_s >= DAY_S and not self._is_watched(stream)
        if stream.end is not None:
            assert ttl_s is not None, f"{name} has ended and would stay for ever"
            assert ttl_s <= KEPT_S[stream.end]
            assert self.do(self.client.xlen(PREFIX + name)) <= 3
            stream.is_safe = False
        elif quiet:
            assert ttl_s is not None, f"{name} is idle and would stay for ever"
            stream.is_safe = False
        else:
            assert _is_near(ttl_s, stream.own_ttl_s), f"{name} runs, and keeps its own TTL or none"
            stream.is_safe = True
        self._forget_own(stream, ttl_s)

    def _forget_own(self, stream: Stream, ttl_s: float | None) -> None:
        """Where a sooner one of ours has taken the place of the publisher's."""
        if stream.own_ttl_s is not None and (ttl_s is None or ttl_s < stream.own_ttl_s - 60):
            stream.own_ttl_s = None

    async def _consumers(self, name: str) -> Sequence[str]:
        if GROUP not in await self.backend.group_names(name):
            return ()
        return await self.backend.consumers(name)

    @rule()
    def dry_run(self) -> None:
        self._pods_renew()
        self.sweep.forget()
        before = self.do(self._digest())
        self.do(self.sweep.round(SPEC.model_copy(update={"dry_run": True})))
        assert self.do(self._digest()) == before

    async def _digest(self) -> bytes:
        found: bytes = await self.client.execute_command("DEBUG", "DIGEST")
        return found

    @rule(steps=st.integers(0, 2))
    def lose_the_lead(self, steps: int) -> None:
        """The sweep is cut short after so many batches of changes; the next one begins anew."""
        self._pods_renew()
        self.sweep.forget()
        self.fence = steps
        small = SPEC.model_copy(update={"pace": SPEC.pace.model_copy(update={"scan_count": 10})})
        try:
            self.do(self.sweep.round(small))
        except Fenced:
            note("fenced")
        self.fence = 10**9

    @rule()
    def be_late(self) -> None:
        """Another operator sweeps as well; its changes are on their way, and its reply is lost."""
        self._pods_renew()
        self.late += self.do(held_back(self.server.url, SPEC))

    @rule()
    def the_late_arrive(self) -> None:
        """Whenever: what runs by now, or is watched by now, is not touched."""
        before = {name: self.do(self.backend.ttl_s(name)) for name in self.streams}
        calls, self.late = self.late, []
        self.do(arrive(self.client, calls))
        for name, stream in self.streams.items():
            ttl_s = self.do(self.backend.ttl_s(name))
            if stream.end is None and (stream.age_s < DAY_S or self._is_watched(stream)):
                taken_back = ttl_s is None and stream.own_ttl_s is None
                assert taken_back or _is_near(ttl_s, before[name]), f"{name} was touched"
            self._forget_own(stream, ttl_s)

    @rule(
        name=WHICH,
        pod=POD,
        before=st.sampled_from(["finish", "age", "rerun"]),
        what=st.sampled_from(["publish", "attach", "finish", "expire"]),
    )
    def overtake(self, name: str, pod: str, before: str, what: str) -> None:
        """Something happens to a stream between a look of another operator and what follows it."""
        match before:
            case "finish":
                self.finish(name, "completed")
            case "age":
                self.publish(name, 1)
                self.much_time_passes(DAY_S - 100)
                self._pass(200)
            case "rerun":
                self.finish(name, "completed")
                self._sweep()
                self.publish(name, 1)
        self.be_late()
        match what:
            case "publish":
                self.publish(name, 1)
            case "attach":
                self.alive.add(pod)
                self.attach(name, pod)
            case "finish":
                self.finish(name, "failed")
                self._sweep()
            case "expire":
                self.expire(name, 2 * HOUR_S)
        self.the_late_arrive()

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def nothing_goes_by_itself(self) -> None:
        for name in self.streams:
            assert self.do(self.backend.exists(name)), name


def _removes(call: Call, name: str, pod: str) -> bool:
    return (
        call.script is lua.REMOVE_CONSUMER
        and call.key == (PREFIX + name).encode()
        and call.args[1] == pod
    )


def _is_near(ttl_s: float | None, expected_s: float | None) -> bool:
    if ttl_s is None or expected_s is None:
        return ttl_s is expected_s
    return abs(ttl_s - expected_s) < 60


@pytest.mark.real("valkey9")
@pytest.mark.timeout(600)  # a failure is made small before it is shown
@pytest.mark.parametrize(
    "server_name", ["valkey9", pytest.param("redis7.0", marks=pytest.mark.full)]
)
def test_the_model_and_redis_agree(server_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if (reason := binaries.missing(server_name)) is not None:
        pytest.skip(reason)
    with asyncio.Runner() as runner:
        server = Server(binaries.require(server_name))
        try:
            runner.run(server.start())
            monkeypatch.setattr(SweepMachine, "server", server, raising=False)
            monkeypatch.setattr(SweepMachine, "runner", runner, raising=False)
            run_state_machine_as_test(
                SweepMachine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=25,
                    deadline=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            server.close()
