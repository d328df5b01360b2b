"""Slots against a model: several pods on one real server, and everything that goes wrong.

Each step is real commands on a real server. Nothing happens between steps, and time goes by only
when a step says so (`let_time_pass`), in pieces of a renewal, in which every running pod has its
turn; a paused pod has none. After each step Redis is compared with what must hold:

* every open connection of a running pod has exactly one slot, and nothing else of that pod has one;
* nobody has more slots than the limit, ever, nor more open connections, once every pod that was
  paused has come back and had its turn;
* a pod that was paused for less than a lease loses no connection, and its lease does not lapse;
* where there is room there is a slot: those of a dead pod are free a lease and a view later.

Lost data is the exception to the last three: until all pods have noticed, the count begins anew.
One user is enough, for users share nothing; a low limit is reached often.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.harness.examples import examples
from tests.redis.lossy import Fate, LossyTopology
from tests.redis.pod import LEASE_S, Pod, held, let_time_pass, lose_data, slot_settings
from tests.servers import binaries
from tests.servers.standalone import Server
from tidegate.core.slots import Full, Taken, new_connection_id
from tidegate.model.errors import RedisUnavailable
from tidegate.redis import lua
from tidegate.redis.slots import ROUND_LEASES

USER = "ann"
LIMIT = 2
RENEW_S = LEASE_S / 3
#: After its last renewal a dead pod's slots are free: its lease, then the age of a view.
FREE_S = LEASE_S + RENEW_S
PODS_MAX = 4
#: In one there are hundreds of turns of pods, with a few commands each.
EXAMPLES = examples(100, quick=10)

WHICH = st.integers(0, 11)
NO_REPLY = st.sampled_from([Fate.REPLY_LOST, Fate.LATE, Fate.LOST])


class Member:
    """A pod and what the model knows about it."""

    def __init__(self, pod: Pod, topology: LossyTopology) -> None:
        self.pod = pod
        self.topology = topology
        self.open: list[str] = []
        self.paused_s: float | None = None
        #: When it was about to renew last: on a busy machine real time goes by, too.
        self.turned_at = time.monotonic()
        #: Redis was away or lost its data, and this pod has not renewed since.
        self.unaware = False
        #: A command may be under way that nobody waits for.
        self.uncertain = False

    @property
    def was_dead(self) -> bool:
        real_s = time.monotonic() - self.turned_at
        return self.paused_s is not None and self.paused_s + real_s >= LEASE_S


def running(machine: SlotsMachine) -> list[Member]:
    return [member for member in machine.alive if member.paused_s is None]


def paused(machine: SlotsMachine) -> list[Member]:
    return [member for member in machine.alive if member.paused_s is not None]


def some_run(machine: SlotsMachine) -> bool:
    return bool(running(machine))


def some_pause(machine: SlotsMachine) -> bool:
    return bool(paused(machine))


class SlotsMachine(RuleBasedStateMachine):
    """One run; the server is shared and wiped."""

    server: Server
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client()
        self.alive: list[Member] = []
        self.started = 0
        #: Seconds since a pod died, and since something after which nobody is taken for dead.
        self.death_s = 0.0
        self.outage_s = 0.0
        self.lost_data = False

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        for member in self.alive:
            self.do(member.pod.__aexit__(None, None, None))
        self.do(self.client.aclose())

    @initialize()
    def begin(self) -> None:
        """Two pods that have lived for a lease, so that each may take the other for dead."""
        self.do(self.server.wipe())
        for script in (lua.SLOT_TAKE, lua.SLOT_SYNC):  # a late command finds its script
            self.do(self.client.script_load(script.text))
        self._start()
        self._start()
        self._pass(FREE_S)

    # -- pods come and go --------------------------------------------------------------------------

    def _start(self) -> Member:
        self.started += 1
        name = f"pod-{self.started}"
        slots = {"limit": LIMIT}
        topology = LossyTopology(slot_settings(self.server.url, name, **slots).redis)
        member = Member(Pod(self.server.url, name, topology=topology, slots=slots), topology)
        self.do(member.pod.__aenter__())
        self.do(member.pod.turn())
        self.alive.append(member)
        return member

    @precondition(lambda self: len(self.alive) < PODS_MAX)
    @rule(count=st.integers(0, LIMIT))
    def start(self, count: int) -> None:
        """The others have not seen it yet when viewers come to it, and to them."""
        member = self._start()
        self._connect(member, count)

    @precondition(lambda self: len(self.alive) > 1)
    @rule(which=WHICH)
    def kill(self, which: int) -> None:
        member = self.alive.pop(which % len(self.alive))
        self.do(member.pod.__aexit__(None, None, None))
        self.death_s = 0.0

    @precondition(lambda self: len(self.alive) > 1)
    @rule(which=WHICH)
    def kill_and_wait(self, which: int) -> None:
        """Until its slots are free, if nothing else is in the way; then somebody wants them."""
        self.kill(which)
        self._pass(FREE_S)
        if running(self):
            self._connect(running(self)[0], LIMIT)

    @precondition(lambda self: len(self.alive) > 1 and some_run(self))
    @rule(which=WHICH)
    def leave(self, which: int) -> None:
        member = running(self)[which % len(running(self))]
        self.alive.remove(member)
        self.do(member.pod.slots.leave())
        self.do(member.pod.pods.leave())
        if not member.uncertain:
            assert member.pod.name not in self._found().values()
        self.do(member.pod.__aexit__(None, None, None))
        self.death_s = 0.0  # a command of its own may be under way

    @precondition(some_run)
    @rule(which=WHICH)
    def pause(self, which: int) -> None:
        running(self)[which % len(running(self))].paused_s = 0.0

    @precondition(some_pause)
    @rule(which=WHICH, count=st.integers(0, LIMIT))
    def resume(self, which: int, count: int) -> None:
        """It has its turn; viewers may come before it has renewed."""
        member = paused(self)[which % len(paused(self))]
        for _ in range(count):
            self._take(member)
        self._turn(member)
        member.paused_s = None

    @rule(which=WHICH, seconds=st.sampled_from([-3600.0, -1.0, 0.5, LEASE_S, 86_400.0]))
    def step_clock(self, which: int, seconds: float) -> None:
        self.alive[which % len(self.alive)].pod.clock.added_s += seconds

    @precondition(some_run)
    @rule(which=WHICH)
    def renew(self, which: int) -> None:
        """A little earlier than the others do."""
        self._turn(running(self)[which % len(running(self))])

    # -- viewers -----------------------------------------------------------------------------------

    def _take(self, member: Member) -> bool:
        connection = new_connection_id()
        verdict = self.do(member.pod.slots.take(USER, connection))
        if isinstance(verdict, Taken):
            member.open.append(connection)
            return True
        assert isinstance(verdict, Full)
        return False

    @precondition(some_run)
    @rule(which=WHICH, count=st.integers(1, LIMIT + 1))
    def connect(self, which: int, count: int) -> None:
        self._connect(running(self)[which % len(running(self))], count)

    def _connect(self, member: Member, count: int) -> None:
        for _ in range(count):
            room = self._has_room()
            taken = self._take(member)
            note(f"{member.pod.name}: {'taken' if taken else 'full'}")
            assert taken or not room, "there was room"
            if taken and self._is_exact():
                assert len(self._open()) <= LIMIT, "there was no room"

    @precondition(some_run)
    @rule(which=WHICH)
    def disconnect(self, which: int) -> None:
        member = running(self)[which % len(running(self))]
        if member.open:
            member.pod.slots.release(USER, member.open.pop(0))
            self.do(member.pod.settle())

    @precondition(some_pause)
    @rule(which=WHICH)
    def disconnect_while_paused(self, which: int) -> None:
        """The first thing that it does when it is back; nothing is sent yet."""
        member = paused(self)[which % len(paused(self))]
        if member.open:
            member.pod.slots.release(USER, member.open.pop())

    @precondition(some_run)
    @rule(which=WHICH, fate=NO_REPLY, again=st.booleans())
    def connect_and_hear_nothing(self, which: int, fate: Fate, again: bool) -> None:
        """The viewer's take is tried once more, or it is told to come back later."""
        member = running(self)[which % len(running(self))]
        self._keep_lease(member)
        connection = new_connection_id()
        room = self._has_room()
        member.topology.fate = fate
        with pytest.raises(RedisUnavailable):
            self.do(member.pod.slots.take(USER, connection))
        member.topology.fate = Fate.ANSWERED
        member.uncertain |= fate is Fate.LATE
        if again:
            taken = isinstance(self.do(member.pod.slots.take(USER, connection)), Taken)
            assert taken or not room, "there was room"
            if taken:
                member.open.append(connection)
        self.do(member.pod.settle())

    @precondition(some_run)
    @rule(which=WHICH, fate=NO_REPLY)
    def disconnect_and_hear_nothing(self, which: int, fate: Fate) -> None:
        member = running(self)[which % len(running(self))]
        if member.open:
            member.pod.slots.release(USER, member.open.pop(0))
            self._work_unheard(member, fate)

    @precondition(some_run)
    @rule(which=WHICH, fate=NO_REPLY)
    def compare_and_hear_nothing(self, which: int, fate: Fate) -> None:
        member = running(self)[which % len(running(self))]
        if member.open:
            self._keep_lease(member)
            member.pod.slots.reassert()
            self._work_unheard(member, fate)

    def _work_unheard(self, member: Member, fate: Fate) -> None:
        member.topology.fate = fate
        with pytest.raises(RedisUnavailable):
            self.do(member.pod.slots.turn())
        member.topology.fate = Fate.ANSWERED
        member.uncertain |= fate is Fate.LATE
        self._turn(member)

    def _keep_lease(self, member: Member) -> None:
        """So that the next command is the one that is meant."""
        if not member.pod.pods.is_held:
            self._turn(member)

    @rule(which=WHICH)
    def late_commands_arrive(self, which: int) -> None:
        self.do(self.alive[which % len(self.alive)].topology.arrive())

    # -- time and Redis ----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, RENEW_S, LEASE_S, FREE_S, FREE_S + 1]))
    def time_passes(self, seconds: float) -> None:
        self._pass(seconds)

    @precondition(some_run)
    @rule()
    def a_long_time_passes(self) -> None:
        """Two rounds over all users: what was late has arrived, and is put right."""
        for member in self.alive:
            self.do(member.topology.arrive())
        self._pass(2 * ROUND_LEASES * LEASE_S + FREE_S)
        for member in running(self):
            member.uncertain = False

    def _pass(self, seconds: float) -> None:
        self.do(self._live(seconds))

    async def _live(self, seconds: float) -> None:
        while seconds > 0:
            piece = min(seconds, RENEW_S)
            seconds -= piece
            await self._let_pass(piece)
            if not running(self):
                self.outage_s = 0.0  # nobody renews, which looks as if Redis were away
            for member in running(self):
                member.pod.slots.go_round(piece)
                await self._take_turn(member)

    async def _let_pass(self, seconds: float) -> None:
        await let_time_pass(self.client, [member.pod for member in self.alive], seconds)
        self.death_s += seconds
        self.outage_s += seconds
        for member in paused(self):
            assert member.paused_s is not None
            member.paused_s += seconds

    @rule(seconds=st.sampled_from([RENEW_S, LEASE_S + 1, 4 * LEASE_S]))
    def redis_away(self, seconds: float) -> None:
        """For all of them, and then back with its data: nobody was dead."""
        self.do(self._let_pass(seconds))
        self.outage_s = 0.0
        for member in self.alive:
            member.unaware = True

    @rule()
    def data_lost(self) -> None:
        self.do(lose_data(self.client))
        self.lost_data = True
        self.outage_s = 0.0
        for member in self.alive:
            member.unaware = True

    def _turn(self, member: Member) -> None:
        self.do(self._take_turn(member))

    async def _take_turn(self, member: Member) -> None:
        """What its tasks would do; what is above the limit is closed, as its sessions would."""
        pods, slots = member.pod.pods, member.pod.slots
        lapses, now = pods.counts["lapses"], time.monotonic()
        await member.pod.turn()
        if not (member.was_dead or member.unaware):
            assert pods.counts["lapses"] == lapses, "a pod that was never dead has lapsed"
        if not (member.was_dead or self.lost_data):
            assert not member.pod.over, "a pod that was never dead was purged"
        for _, connection in member.pod.over:
            member.open.remove(connection)
            slots.release(USER, connection)
        member.pod.over.clear()
        await member.pod.settle()
        member.unaware = False
        member.turned_at = now
        if self.lost_data and not any(one.unaware for one in self.alive):
            self.lost_data = False
            self.outage_s = 0.0

    # -- what must hold ----------------------------------------------------------------------------

    def _found(self) -> dict[str, str]:
        found: dict[str, str] = self.do(held(self.client, USER))
        return found

    def _open(self) -> list[str]:
        return [connection for member in self.alive for connection in member.open]

    def _is_exact(self) -> bool:
        """Every open connection has its slot now."""
        aware = all(one.paused_s is None and not one.unaware for one in self.alive)
        return aware and not self.lost_data

    def _has_room(self) -> bool:
        """A take must succeed: no slot of the living or the dead is in its way."""
        if len(self._found().keys() | set(self._open())) < LIMIT:
            return True
        nobody_else = min(self.death_s, self.outage_s) >= FREE_S and self._is_exact()
        certain = not any(member.uncertain for member in self.alive)
        return nobody_else and certain and len(self._open()) < LIMIT

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        found = self._found()
        assert len(found) <= LIMIT
        if self._is_exact():
            assert len(self._open()) <= LIMIT
        for member in running(self):
            if not member.unaware and not self.lost_data:
                missing = set(member.open) - found.keys()
                assert not missing, f"{member.pod.name} has no slot for {missing}"
            if not member.uncertain:
                own = {connection for connection, name in found.items() if name == member.pod.name}
                extra = own - set(member.open)
                assert not extra, f"{member.pod.name} has slots that nobody holds: {extra}"


@pytest.mark.timeout(1_200)  # 200 s on a busy machine; a failure is made small before it is shown
def test_the_model_and_redis_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    with asyncio.Runner() as runner:
        server = Server(binaries.embedded())
        try:
            runner.run(server.start())
            monkeypatch.setattr(SlotsMachine, "server", server, raising=False)
            monkeypatch.setattr(SlotsMachine, "runner", runner, raising=False)
            run_state_machine_as_test(
                SlotsMachine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=30,
                    deadline=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            server.close()
