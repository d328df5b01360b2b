"""The election with real processes on a real API server: takeover, hand-over, fencing."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import time
from datetime import UTC, datetime

import pytest

from tests.harness.waiting import until
from tests.operator.secrets import Clock
from tests.operator.stage import Object, Operator, Stage
from tidegate_operator.kube.client import connect
from tidegate_operator.kube.errors import ApiConflict, ApiForbidden, ApiNotFound, ApiUnreachable
from tidegate_operator.kube.lease import Record, Write, lease_time
from tidegate_operator.kube.permissions import PERMISSIONS
from tidegate_operator.leader.candidate import Leader
from tidegate_operator.leader.election import Terms

#: Shorter than a real one's, and still nothing that a machine would miss that stands still for 2 s.
SHORT = Terms(duration_s=6.0, deadline_s=3.5, renew_s=0.75)
#: From SIGKILL to the first round of the next leader: the Lease's duration, two looks, and a
#: machine that has other things to do.
TAKEOVER_S = SHORT.duration_s + 5.0


async def _two(stage: Stage, terms: Terms = SHORT) -> None:
    lease = {
        "LEASE_DURATION_S": f"{terms.duration_s:g}",
        "LEASE_DEADLINE_S": f"{terms.deadline_s:g}",
        "LEASE_RENEW_S": f"{terms.renew_s:g}",
    }
    await stage.grant()
    await stage.make_deployment(2)
    await stage.settle_deployment()
    for end in ("aaaaa", "bbbbb"):
        await stage.make_pod(end, connections=10)
    await stage.make_gateway(scaling={"min": 2, "max": 6, "connectionsPerPod": 100})
    first = await stage.start_operator("operator-0", **lease)
    await stage.condition("Ready", "True")
    second = await stage.start_operator("operator-1", **lease)
    assert await stage.leader() == "operator-0"
    assert (await first.get("/readyz")).json()["reason"] == "leading"
    # A replica that waits is ready, or a rolling update would never end.
    assert (await second.get("/readyz")).json() == {"ok": True, "reason": "following"}
    assert await second.metric("tidegate_operator_leader") == 0


def _seconds(text: str) -> float:
    """Since the epoch. What operators write down themselves: looking may come late."""
    return datetime.fromisoformat(text).timestamp()


def _told_at(operator: Operator, event: str) -> float | None:
    """When it last wrote this line into its log; None: not yet."""
    log = operator.process.log_file.read_text()
    found = re.findall(rf'"event": "{event}".*"timestamp": "([^"]+)"', log)
    return _seconds(found[-1]) if found else None


async def test_a_killed_leader_is_replaced_in_time(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    await _two(stage)
    first, second = stage.operators
    first.process.signal(signal.SIGKILL)
    killed = time.time()
    # The next one acts, which is more than that it holds the Lease.
    await stage.load(900)
    scaled: list[Object] = []

    async def told() -> bool:
        scaled[:] = [one for one in await stage.events() if one["reason"] == "ScaledUp"]
        return bool(scaled)

    await until(told, second.process.log_tail)
    took_s = _seconds(scaled[0]["eventTime"]) - killed
    with capsys.disabled():
        sys.stdout.write(f"\ntakeover after kill -9: {took_s:.1f} s\n")
    assert await stage.replicas() > 2
    assert await stage.leader() == "operator-1"
    assert took_s < TAKEOVER_S


async def test_a_stopped_leader_hands_over_at_once_and_nothing_else_happens(stage: Stage) -> None:
    await _two(stage, Terms())
    first, second = stage.operators
    assert await first.process.stop(30) == 0
    writes: list[Object] = []

    async def other_leads() -> bool:
        asked = stage.kubernetes.requests(stage.user)
        patches = [r for r in asked if (r.verb, r.resource, r.code) == ("patch", "leases", 200)]
        writes[:] = [one.body["spec"] for one in patches]
        return bool(writes[-1]["holderIdentity"] == "operator-1")

    await until(other_leads, second.process.log_tail)
    given_up = [one["holderIdentity"] for one in writes].index("")
    left, taken = writes[given_up : given_up + 2]
    # Less than the Lease's duration.
    assert _seconds(taken["acquireTime"]) - _seconds(left["renewTime"]) < 8
    assert (await stage.send("GET", stage.path("pods")))["items"]
    assert await stage.replicas() == 2


async def test_a_leader_that_stood_still_does_nothing_when_it_wakes(stage: Stage) -> None:
    await _two(stage)
    first, second = stage.operators
    first.process.pause()

    async def other_leads() -> bool:
        return await stage.leader() == "operator-1"

    await until(other_leads, second.process.log_tail)
    writes = [r for r in stage.kubernetes.requests(stage.user) if r.verb == "patch"]
    first.process.resume()

    async def follows() -> bool:
        return bool((await first.get("/readyz")).json()["reason"] == "following")

    await until(follows, first.process.log_tail)
    assert await first.metric("tidegate_operator_leader") == 0

    async def told() -> bool:  # it knows by its clock before it says so
        return _told_at(first, "leadership lost") is not None

    await until(told, first.process.log_tail)
    assert await stage.leader() == "operator-1"
    # Both have one user, so what the first one wrote since would be among these: a status, a scale.
    since = [r for r in stage.kubernetes.requests(stage.user) if r.verb == "patch"][len(writes) :]
    assert {r.resource for r in since} <= {"leases", "gateways/status"}


async def test_the_leader_gives_up_when_the_api_server_is_silent(stage: Stage) -> None:
    await _two(stage)
    first, _ = stage.operators
    stage.kubernetes.pause_api()
    paused = time.time()
    try:

        async def follows() -> bool:
            return (
                await first.metric("tidegate_operator_leader") == 0
                and _told_at(first, "leadership lost") is not None
            )

        await until(follows, first.process.log_tail)
        lost = _told_at(first, "leadership lost")
        assert lost is not None
        assert lost - paused < SHORT.duration_s  # before anybody else may begin
        assert (await first.get("/healthz")).status_code == 200  # a restart would not help
    finally:
        stage.kubernetes.resume_api()

    async def somebody_leads() -> bool:
        leading = [await one.metric("tidegate_operator_leader") for one in stage.operators]
        return sum(leading) == 1

    await until(somebody_leads, first.process.log_tail)


#: The shortest that the settings allow: what is waited for here is three of them.
SHORTEST = {"LEASE_DURATION_S": "3", "LEASE_DEADLINE_S": "2", "LEASE_RENEW_S": "0.4"}


async def test_a_deleted_lease_is_made_again_by_its_leader_and_goes_with_its_pod(
    stage: Stage,
) -> None:
    """Without the Lease that the chart brought, both operators did nothing and looked healthy."""
    await stage.grant()
    pods = [await stage.make_pod(end, connections=None) for end in ("aaaaa", "bbbbb")]
    uids = [(await stage.send("GET", stage.path("pods", name)))["metadata"]["uid"] for name in pods]
    path = stage.path("leases", "tidegate-operator", api="/apis/coordination.k8s.io/v1")

    async def owner() -> object:
        answer = await stage.api.get(path)
        if answer.status_code == 404:
            return None
        [one] = answer.json()["metadata"]["ownerReferences"]
        return (one["kind"], one["name"], one["uid"])

    async def owned(number: int) -> bool:
        return await owner() == ("Pod", pods[number], uids[number])

    first = await stage.start_operator(pods[0], POD_UID=uids[0])
    await until(lambda: owned(0), first.process.log_tail)
    second = await stage.start_operator(pods[1], POD_UID=uids[1])
    for _ in range(3):
        await stage.send("DELETE", path)
        await until(lambda: owned(0), first.process.log_tail)
    log = first.process.log_file.read_text()
    assert log.count("lease was deleted") == 3
    assert log.count('"leading"') == 1
    assert "leadership lost" not in log
    assert '"leading"' not in second.process.log_file.read_text()  # it left it to its holder
    # The next leader's pod owns it in turn.
    assert await first.process.stop(30) == 0
    await until(lambda: owned(1), second.process.log_tail)


async def test_operators_that_may_not_make_the_lease_are_not_ready_and_the_gateway_says_why(
    stage: Stage,
) -> None:
    make = ("coordination.k8s.io", "leases", ("create",))
    await stage.grant([one for one in PERMISSIONS if (one.group, one.resource, one.verbs) != make])
    await stage.make_deployment(2)
    await stage.settle_deployment()
    for end in ("aaaaa", "bbbbb"):
        await stage.make_pod(end, connections=10)
    await stage.make_gateway(scaling={"min": 2, "max": 6, "connectionsPerPod": 100})
    operators = [await stage.start_operator(f"operator-{n}", **SHORTEST) for n in range(2)]
    ready = await stage.condition("Ready", "Unknown", "NoLeader")
    elected = await stage.condition("LeaderElected", "False", "NoLeader")
    for one in (ready, elected):
        assert "create leases" in one["message"]
        assert "forbidden" in one["message"]
        assert "the Lease tidegate-operator" in one["message"]
    for operator in operators:

        async def not_ready(operator: Operator = operator) -> bool:
            answer = await operator.get("/readyz")
            return answer.status_code == 503 and "no replica" in answer.json()["reason"]

        await until(not_ready, operator.process.log_tail)
        assert (await operator.get("/healthz")).status_code == 200  # a restart would not help

    async def told() -> list[Object]:
        return [one for one in await stage.events() if one["reason"] == "NoLeader"]

    await until(told, operators[0].process.log_tail)
    assert [one["type"] for one in await told()] == ["Warning"]  # by one of them, once
    # With the right it leads, and everything is as it should be.
    api = "/apis/rbac.authorization.k8s.io/v1"
    rules = (await stage.send("GET", stage.path("roles", "operator", api=api)))["rules"]
    rules.append({"apiGroups": [make[0]], "resources": [make[1]], "verbs": list(make[2])})
    await stage.send("PATCH", stage.path("roles", "operator", api=api), {"rules": rules})
    await stage.condition("Ready", "True", "Serving")
    await stage.condition("LeaderElected", "True", "Leading")
    assert (await stage.gateway())["status"]["observedAt"] >= elected["lastTransitionTime"]
    for operator in operators:
        await operator.ready()


async def test_the_lease_is_written_as_others_read_it(stage: Stage) -> None:
    kube = connect(stage.kubernetes.admin_kubeconfig, stage.namespace, timeout_s=10)
    try:
        assert await kube.lease("one") is None
        now = datetime(2026, 11, 23, 9, 0, 0, 120, tzinfo=UTC)
        made = await kube.write_lease(
            "one", Write("pod-a", 0, None, begins=True), duration_s=10, renewed=now
        )
        assert made == await kube.lease("one")
        assert (made.holder, made.duration_s, made.transitions) == ("pod-a", 10.0, 0)
        assert made.renewed == "2026-11-23T09:00:00.000120Z"  # the text that was sent
        with pytest.raises(ApiConflict):
            await kube.write_lease(
                "one", Write("pod-b", 0, None, begins=True), duration_s=10, renewed=now
            )
        with pytest.raises(ApiConflict):
            await kube.write_lease(
                "one", Write("pod-b", 1, "1", begins=True), duration_s=10, renewed=now
            )
        taken = Write("pod-b", 1, made.version, begins=True)
        assert (await kube.write_lease("one", taken, duration_s=10, renewed=now)).holder == "pod-b"
    finally:
        await kube.close()


class Shelf:
    """A Lease in memory with the API server's rule: a write names the version that is there."""

    def __init__(self) -> None:
        self.record: Record | None = None
        self.silent = False
        self.may_create = True
        self.writes: list[Write] = []

    async def lease(self, name: str) -> Record | None:
        await self._answer()
        return self.record

    def delete(self) -> None:
        self.record = None

    async def write_lease(
        self, name: str, write: Write, *, duration_s: int, renewed: datetime
    ) -> Record:
        await self._answer()
        if write.version is None and not self.may_create:
            raise ApiForbidden("create leases: forbidden", 403)
        if write.version is not None and self.record is None:
            raise ApiNotFound("there is no Lease", 404)
        if write.version != (None if self.record is None else self.record.version):
            raise ApiConflict("not this version", 409)
        self.writes.append(write)
        number = str(len(self.writes))
        self.record = Record(
            write.holder, duration_s, lease_time(renewed), write.transitions, number
        )
        return self.record

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.silent:
            raise ApiUnreachable("nobody answers")


class Work:
    """A leader's work that writes down its life."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.broken = asyncio.Event()
        self.begins = 0

    async def __call__(self) -> None:
        self.begins += 1
        self.began.set()
        self.ended.clear()
        try:
            await self.broken.wait()
            raise ValueError("broken")
        finally:
            self.began.clear()
            self.ended.set()


QUICK = Terms(duration_s=0.5, deadline_s=0.3, renew_s=0.05)


def _candidate(shelf: Shelf, name: str, work: Work, clock: Clock) -> Leader:
    """It leads as long as this clock says so, however late the machine is."""
    leader = Leader(shelf, lease="one", identity=name, terms=QUICK, work=work)
    leader._clock = clock
    return leader


async def test_the_work_ends_when_the_leadership_is_lost_and_begins_again() -> None:
    shelf, work, clock = Shelf(), Work(), Clock()
    leader = _candidate(shelf, "one", work, clock)
    async with asyncio.timeout(60):
        task = asyncio.create_task(leader.run())
        await work.began.wait()
        assert leader.leads()
        shelf.silent = True
        clock.now += QUICK.deadline_s
        await work.ended.wait()
        assert not leader.leads()
        assert leader.counts["losses"] == 1
        shelf.silent = False
        await work.began.wait()
        assert work.begins == 2
        leader.stop()
        assert not leader.leads()
        await task
    assert work.ended.is_set()
    assert shelf.record is not None
    assert shelf.record.holder == ""


async def test_two_candidates_never_work_at_once_and_hand_over_without_waiting() -> None:
    """The clock stands still, so no Lease lapses."""
    shelf, works, clock = Shelf(), (Work(), Work()), Clock()
    leaders = [_candidate(shelf, name, work, clock) for name, work in zip("ab", works, strict=True)]
    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(one.run()) for one in leaders]
        for turn in (0, 1):
            await works[turn].began.wait()
            assert not works[1 - turn].began.is_set()
            leaders[turn].stop()
            await tasks[turn]
            assert works[turn].ended.is_set()
    assert [write.holder for write in shelf.writes if write.begins] == ["a", "b"]


async def test_a_deleted_lease_is_made_again_and_the_work_goes_on() -> None:
    shelf, work, clock = Shelf(), Work(), Clock()
    leader = _candidate(shelf, "one", work, clock)
    async with asyncio.timeout(60):
        task = asyncio.create_task(leader.run())
        await work.began.wait()
        shelf.delete()
        await until(lambda: shelf.record is not None)
        assert leader.leads()
        assert (work.begins, work.ended.is_set()) == (1, False)
        assert leader.counts["deletions"] == 1
        leader.stop()
        await task


async def test_who_may_not_make_the_lease_is_without_a_leader_and_knows_why() -> None:
    shelf, work, clock = Shelf(), Work(), Clock()
    shelf.may_create = False
    leader = _candidate(shelf, "one", work, clock)
    async with asyncio.timeout(60):
        task = asyncio.create_task(leader.run())
        await until(lambda: leader.trouble != "")
        assert leader.trouble == "create leases: forbidden"
        before = leader.leaderless_s()
        clock.now += 30
        assert leader.leaderless_s() - before == pytest.approx(30)
        shelf.may_create = True
        await work.began.wait()
        assert leader.leaderless_s() == 0
        await until(lambda: leader.trouble == "")
        leader.stop()
        await task


async def test_work_that_breaks_gives_the_lease_up_and_is_told() -> None:
    shelf, work = Shelf(), Work()
    leader = _candidate(shelf, "one", work, Clock())
    work.broken.set()
    async with asyncio.timeout(60):
        with pytest.raises(ValueError, match="broken"):
            await leader.run()
    assert shelf.record is not None
    assert shelf.record.holder == ""


async def test_stop_before_start_and_twice_is_fine() -> None:
    shelf, work = Shelf(), Work()
    leader = _candidate(shelf, "one", work, Clock())
    leader.stop()
    leader.stop()
    async with asyncio.timeout(60):
        await leader.run()
    assert work.begins == 0
    assert shelf.record is None
