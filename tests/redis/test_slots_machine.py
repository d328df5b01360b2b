"""Slots against a model: several pods on one real server, and everything that goes wrong.

Each step is real commands on a real server; nothing happens between steps, and time goes by only
when a step says so (`let_time_pass`), in pieces of a renewal in which every running pod has its
turn. A paused pod has no turns. The model knows which connections are open and which pods may own
a slot that nobody holds; after each step the hashes in Redis are compared with it:

* every open connection of a running pod has exactly one slot, and nothing else of such a pod has;
* no user has more open connections than the limit, once every paused pod has come back and had its
  turn (a user may, after Redis lost its data, until all pods noticed);
* a pod that was never paused loses no connection, and its lease never lapses, except to lost data;
* slots of a dead pod are free one lease and one view after its last renewal.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.redis.lossy import Fate, LossyTopology
from tests.redis.pod import LEASE_S, Pod, held, let_time_pass, lose_data, slot_settings
from tests.servers import binaries
from tests.servers.standalone import Server
from tidegate.core.slots import Full, Taken, new_connection_id
from tidegate.model.errors import RedisUnavailable
from tidegate.redis import lua
from tidegate.redis.slots import ROUND_LEASES

USERS = ("ann", "bob")
LIMIT = 3
RENEW_S = LEASE_S / 3
#: After its last renewal a dead pod's slots are free: its lease, then the age of a view.
FREE_S = LEASE_S + RENEW_S
PODS_MAX = 4
EXAMPLES = 150


class Member:
    """A pod of the model."""

    def __init__(self, pod: Pod, topology: LossyTopology) -> None:
        self.pod = pod
        self.topology = topology
        self.open: dict[str, str] = {}  # connection -> user
        self.paused_s: float | None = None
        self.away = False  # Redis was, and this pod has not renewed since
        self.uncertain = False  # a late command may still be under way


class SlotsMachine(RuleBasedStateMachine):
    """One run; the server is shared and wiped."""

    server: Server
    runner: asyncio.Runner

    members = Bundle("members")
    connections = Bundle("connections")

    def __init__(self) -> None:
        super().__init__()
        self.client = self.server.client()
        self.alive: list[Member] = []
        self.started = 0
        #: Seconds since a pod died, and since something after which nobody is taken for dead.
        self.death_s = 0.0
        self.outage_s = 0.0
        #: Redis lost its data, or was silent for a lease: who is above the limit is found out.
        self.lost_data = False

    def do(self, work: Any) -> Any:
        return self.runner.run(work)

    def teardown(self) -> None:
        for member in self.alive:
            self.do(member.pod.__aexit__(None, None, None))
        self.do(self.client.aclose())

    @initialize(target=members)
    def begin(self) -> Any:
        """Two pods that have lived for a lease, so that each may take the other for dead."""
        self.do(self.server.wipe())
        for script in (lua.SLOT_TAKE, lua.SLOT_SYNC):  # a late command finds its script
            self.do(self.client.script_load(script.text))
        both = self._start(), self._start()
        for _ in range(4):
            self._pass(RENEW_S)
        return multiple(*both)

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
    @rule(target=members)
    def start(self) -> Any:
        return self._start()

    @precondition(lambda self: len(self.alive) > 1)
    @rule(member=consumes(members))
    def kill(self, member: Member) -> None:
        if member not in self.alive:
            return
        self.alive.remove(member)
        self.do(member.pod.__aexit__(None, None, None))
        self.death_s = 0.0

    @precondition(lambda self: len(self.alive) > 1)
    @rule(member=consumes(members))
    def leave(self, member: Member) -> None:
        if member not in self.alive or member.paused_s is not None or member.uncertain:
            return
        self.alive.remove(member)
        self.do(member.pod.slots.leave())
        self.do(member.pod.pods.leave())
        for user in USERS:
            assert member.pod.name not in self.do(held(self.client, user)).values()
        self.do(member.pod.__aexit__(None, None, None))

    @rule(member=members)
    def pause(self, member: Member) -> None:
        if member in self.alive and member.paused_s is None:
            member.paused_s = 0.0

    @rule(member=members, takes_first=st.booleans(), user=st.sampled_from(USERS))
    def resume(self, member: Member, takes_first: bool, user: str) -> None:
        """It comes back and has its turn; a viewer may come before it has renewed."""
        if member not in self.alive or member.paused_s is None:
            return
        if takes_first:
            self._connect(member, user)
        self._turn(member)
        member.paused_s = None

    @rule(member=members, seconds=st.sampled_from([-3600.0, -1.0, 0.5, LEASE_S, 86_400.0]))
    def step_clock(self, member: Member, seconds: float) -> None:
        if member in self.alive:
            member.pod.clock.added_s += seconds

    # -- viewers -----------------------------------------------------------------------------------

    def _connect(self, member: Member, user: str) -> Any:
        connection = new_connection_id()
        verdict = self.do(member.pod.slots.take(user, connection))
        if isinstance(verdict, Taken):
            member.open[connection] = user
            return member, connection
        assert isinstance(verdict, Full)
        return None

    @rule(target=connections, member=members, user=st.sampled_from(USERS))
    def connect(self, member: Member, user: str) -> Any:
        if member not in self.alive or member.paused_s is not None:
            return multiple()
        open_now = self._open(user)
        room = len(open_now) + len(self._strays(user)) < LIMIT
        taken = self._connect(member, user)
        note(f"{member.pod.name} {user}: {'taken' if taken else 'full'}")
        if room:
            assert taken is not None, "there was room"
        elif self._is_exact() and len(open_now) >= LIMIT:
            assert taken is None, "there was no room"
        return multiple() if taken is None else taken

    @rule(one=consumes(connections))
    def disconnect(self, one: tuple[Member, str]) -> None:
        member, connection = one
        user = member.open.pop(connection, None)
        if user is None or member not in self.alive:
            return
        member.pod.slots.release(user, connection)
        if member.paused_s is None:
            self.do(member.pod.settle())

    @rule(
        target=connections,
        member=members,
        user=st.sampled_from(USERS),
        fate=st.sampled_from([Fate.REPLY_LOST, Fate.LATE, Fate.LOST]),
        again=st.booleans(),
    )
    def connect_and_hear_nothing(self, member: Member, user: str, fate: Fate, again: bool) -> Any:
        """The reply to a take is lost; it is tried again with the same connection, or given up."""
        if member not in self.alive or member.paused_s is not None:
            return multiple()
        self._keep_lease(member)
        connection = new_connection_id()
        member.topology.fate = fate
        with pytest.raises(RedisUnavailable):
            self.do(member.pod.slots.take(user, connection))
        member.topology.fate = Fate.ANSWERED
        member.uncertain = member.uncertain or fate is Fate.LATE
        if again and isinstance(self.do(member.pod.slots.take(user, connection)), Taken):
            member.open[connection] = user
            self.do(member.pod.settle())
            return member, connection
        self.do(member.pod.settle())
        return multiple()

    @rule(member=members)
    def late_commands_arrive(self, member: Member) -> None:
        if member in self.alive:
            self.do(member.topology.arrive())

    @rule(
        member=members,
        fate=st.sampled_from([Fate.REPLY_LOST, Fate.LATE, Fate.LOST]),
    )
    def compare_and_hear_nothing(self, member: Member, fate: Fate) -> None:
        if member not in self.alive or member.paused_s is not None or not member.open:
            return
        self._keep_lease(member)
        member.pod.slots.reassert()
        member.topology.fate = fate
        with pytest.raises(RedisUnavailable):
            self.do(member.pod.slots.turn())
        member.topology.fate = Fate.ANSWERED
        member.uncertain = member.uncertain or fate is Fate.LATE
        self._turn(member)

    def _keep_lease(self, member: Member) -> None:
        """So that the next command is the one that the test means."""
        if not member.pod.pods.is_held:
            self._turn(member)

    # -- time and Redis ----------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, RENEW_S, LEASE_S, FREE_S + 1, 4 * LEASE_S]))
    def time_passes(self, seconds: float) -> None:
        while seconds > 0:
            piece = min(seconds, RENEW_S)
            seconds -= piece
            self._pass(piece)

    def _pass(self, seconds: float) -> None:
        self.do(let_time_pass(self.client, [m.pod for m in self.alive], seconds))
        self.death_s += seconds
        self.outage_s += seconds
        if all(member.paused_s is not None for member in self.alive):
            self.outage_s = 0.0  # nobody renews: as if Redis were away
        for member in self.alive:
            if member.paused_s is None:
                member.pod.slots.go_round(seconds)
                self._turn(member)
            else:
                member.paused_s += seconds

    @rule(seconds=st.sampled_from([RENEW_S, LEASE_S + 1, 4 * LEASE_S]))
    def redis_away(self, seconds: float) -> None:
        """For all of them, and then back with its data: nobody was dead."""
        self.do(let_time_pass(self.client, [m.pod for m in self.alive], seconds))
        self.death_s += seconds
        self.outage_s = 0.0
        for member in self.alive:
            member.away = True
            if member.paused_s is not None:
                member.paused_s += seconds

    @rule(member=members)
    def notices(self, member: Member) -> None:
        """It renews a little earlier than others do."""
        if member in self.alive and member.paused_s is None:
            self._turn(member)

    @rule()
    def data_lost(self) -> None:
        self.do(lose_data(self.client))
        self.lost_data = True
        self.outage_s = 0.0

    @precondition(lambda self: self.lost_data)
    @rule()
    def everybody_notices(self) -> None:
        for member in self.alive:
            self._turn(member)
            member.paused_s = None
        self.lost_data = False
        self.outage_s = 0.0

    def _turn(self, member: Member) -> None:
        """What its tasks would do; its over-limit connections are closed as its sessions would."""
        slots, pods = member.pod.slots, member.pod.pods
        before = pods.counts["lapses"]
        self.do(member.pod.turn())
        was_dead = member.paused_s is not None and member.paused_s >= LEASE_S
        if not (was_dead or member.away or self.lost_data):
            assert pods.counts["lapses"] == before, "a pod that was never dead has lapsed"
        if not (was_dead or self.lost_data):
            assert not member.pod.over, "a pod that was never dead was purged"
        member.away = False
        for user, connection in member.pod.over:
            assert member.open.pop(connection) == user
            slots.release(user, connection)
        member.pod.over.clear()
        self.do(member.pod.settle())

    # -- the model ---------------------------------------------------------------------------------

    def _open(self, user: str) -> list[str]:
        return [c for m in self.alive for c, name in m.open.items() if name == user]

    def _strays(self, user: str) -> list[str]:
        """Slots in Redis that no open connection has."""
        return [c for c in self.do(held(self.client, user)) if c not in self._open(user)]

    def _is_exact(self) -> bool:
        """Every open connection should have its slot now."""
        everybody = all(m.paused_s is None and not m.away for m in self.alive)
        return everybody and not self.lost_data

    @invariant()
    def nothing_is_lost_or_counted_twice(self) -> None:
        for user in USERS:
            found = self.do(held(self.client, user))
            if not self.lost_data:
                for member in self.alive:
                    own = {c for c, name in member.open.items() if name == user}
                    if member.paused_s is None and not member.away:
                        missing = own - found.keys()
                        assert not missing, f"{member.pod.name} has no slot for {missing}"
                        if not member.uncertain:
                            extra = {c for c, n in found.items() if n == member.pod.name} - own
                            assert not extra, f"{member.pod.name} has slots nobody holds: {extra}"
            if self._is_exact():
                assert len(self._open(user)) <= LIMIT
            assert len(found) <= LIMIT

    @rule()
    def the_dead_are_free(self) -> None:
        """After their time a comparison by any pod leaves only what is open."""
        running = [member for member in self.alive if member.paused_s is None]
        if not running or min(self.death_s, self.outage_s) < FREE_S or not self._is_exact():
            return
        for user in USERS:
            first = running[0]
            if len(self._open(user)) < LIMIT and not any(m.uncertain for m in self.alive):
                taken = self._connect(first, user)
                assert taken is not None, "a dead pod still holds a slot"
                assert set(self.do(held(self.client, user))) == set(self._open(user))

    @rule()
    def a_long_time_passes(self) -> None:
        """Rounds over all users: also what was late and is under way no more is put right."""
        for member in self.alive:
            self.do(member.topology.arrive())
        for _ in range(2 * 3 * ROUND_LEASES + 2):
            self._pass(RENEW_S)
        for member in self.alive:
            if member.paused_s is None:
                member.uncertain = False


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
                    stateful_step_count=25,
                    deadline=None,
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            server.close()
