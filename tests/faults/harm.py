"""Carries the faults out, one at a time for each target, and heals everything behind itself.

Whoever is struck is noted with the time, before the blow falls, for the time to recover.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import redis.asyncio
from redis.exceptions import RedisError

from tests.faults.plan import SPECS, Fault, Kind, Target
from tests.faults.replicas import Replica
from tests.faults.viewer import Viewer
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault
from tests.servers.standalone import Server

GROUP = "tidegate"
DELAY_S = (0.02, 0.3)
LOSS = 0.5


class Blow(NamedTuple):
    """A fault that was carried out: when (seconds since the epoch), how long, who was struck."""

    kind: Kind
    at: float
    seconds: float
    struck: tuple[Viewer, ...]


class Place:
    """One replica with what stands in its ways."""

    def __init__(self, replica: Replica, proxy: Proxy, link: Proxy, rng: random.Random) -> None:
        self.replica = replica
        self.proxy = proxy
        self.link = link
        #: Chance that a push of this kind is lost, and that it comes twice.
        self.loss = {b"smessage": 0.0, b"invalidate": 0.0}
        self.repetition = 0.0
        self._rng = rng
        self.pushes = [
            PushFault(b"smessage", lambda _: self._copies(b"smessage")),
            PushFault(b"invalidate", lambda _: self._copies(b"invalidate")),
        ]
        link.down.filter = self._filter
        self.process_lock = asyncio.Lock()
        self.door_lock = asyncio.Lock()
        self.link_lock = asyncio.Lock()

    def _filter(self) -> Callable[[bytes], bytes]:
        relay, bell = (push.on_connection() for push in self.pushes)
        return lambda data: bell(relay(data))

    def _copies(self, kind: bytes) -> int:
        if self.loss[kind] and self._rng.random() < self.loss[kind]:
            return 0
        if kind == b"smessage" and self.repetition and self._rng.random() < self.repetition:
            return 2
        return 1


class Harm:
    """The hand that strikes. `viewers` and `streams` tell who is there at the moment."""

    def __init__(
        self,
        server: Server,
        places: Sequence[Place],
        viewers: Callable[[], Sequence[Viewer]],
        streams: Callable[[], Sequence[str]],
    ) -> None:
        self.blows: list[Blow] = []
        self._server = server
        self._places = places
        self._viewers = viewers
        self._streams = streams
        self._server_lock = asyncio.Lock()

    async def carry_out(self, plan: Sequence[Fault]) -> None:
        """All faults at their times; returns when everything is healed."""
        start = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as tasks:
            for fault in plan:
                left = start + fault.at_s - asyncio.get_running_loop().time()
                await asyncio.sleep(max(0.0, left))
                tasks.create_task(self._do(fault), name=fault.kind.name)

    async def _do(self, fault: Fault) -> None:
        place = self._places[fault.replica]
        match SPECS[fault.kind].target:
            case Target.REPLICA:
                async with place.process_lock:
                    self._note(fault, self._of(fault.replica))
                    await self._hurt_replica(fault, place.replica)
            case Target.VIEWERS:
                async with place.door_lock:
                    self._note(fault, self._of(fault.replica))
                    await self._hurt_proxy(fault, place.proxy)
            case Target.LINK:
                async with place.link_lock:
                    self._note(fault, self._of(fault.replica))
                    await self._hurt_link(fault, place)
            case Target.REDIS:
                async with self._server_lock:
                    self._note(fault, self._viewers())
                    await self._hurt_server(fault)
            case Target.STREAM:
                # The server must be there for this one.
                async with self._server_lock:
                    await self._hurt_stream(fault)

    def _of(self, replica: int) -> list[Viewer]:
        return [viewer for viewer in self._viewers() if viewer.replica == replica]

    def _note(self, fault: Fault, struck: Sequence[Viewer]) -> None:
        self.blows.append(Blow(fault.kind, time.time(), fault.seconds, tuple(struck)))

    # --- by target

    async def _hurt_replica(self, fault: Fault, replica: Replica) -> None:
        match fault.kind:
            case Kind.KILL_REPLICA:
                await replica.kill()
            case Kind.STOP_REPLICA:
                await replica.stop()
            case _:
                replica.pause()
                await asyncio.sleep(fault.seconds)
                replica.resume()
                return
        await asyncio.sleep(fault.seconds)
        await replica.start(ready=False)

    async def _hurt_proxy(self, fault: Fault, proxy: Proxy) -> None:
        match fault.kind:
            case Kind.CUT_VIEWERS:
                proxy.cut()
            case Kind.DELAY_VIEWERS:
                proxy.down.delay(DELAY_S[0] + fault.chance * (DELAY_S[1] - DELAY_S[0]))
                await asyncio.sleep(fault.seconds)
                proxy.down.delay(0.0)
            case Kind.STALL_VIEWERS:
                proxy.down.stall()
                await asyncio.sleep(fault.seconds)
                proxy.down.flow()
            case _:
                proxy.up.swallow()
                proxy.down.swallow()
                await asyncio.sleep(fault.seconds)
                self._revive(proxy)

    async def _hurt_link(self, fault: Fault, place: Place) -> None:
        link = place.link
        match fault.kind:
            case Kind.CUT_LINK:
                link.cut()
            case Kind.DELAY_LINK:
                link.down.delay(DELAY_S[0] + fault.chance * (DELAY_S[1] - DELAY_S[0]))
                await asyncio.sleep(fault.seconds)
                link.down.delay(0.0)
            case Kind.STALL_LINK_DOWN:
                link.down.stall()
                await asyncio.sleep(fault.seconds)
                link.down.flow()
            case Kind.STALL_LINK_UP:
                link.up.stall()
                await asyncio.sleep(fault.seconds)
                link.up.flow()
            case Kind.DEAD_LINK:
                link.up.swallow()
                link.down.swallow()
                await asyncio.sleep(fault.seconds)
                self._revive(link)
            case Kind.LOSE_RELAY:
                place.loss[b"smessage"] = LOSS
                await asyncio.sleep(fault.seconds)
                place.loss[b"smessage"] = 0.0
            case Kind.LOSE_BELL:
                place.loss[b"invalidate"] = LOSS
                await asyncio.sleep(fault.seconds)
                place.loss[b"invalidate"] = 0.0
            case Kind.REPEAT_RELAY:
                place.repetition = LOSS
                await asyncio.sleep(fault.seconds)
                place.repetition = 0.0
            case _:
                async with self._server_lock:
                    await self._kill_clients(place.replica.pod)

    async def _kill_clients(self, pod: str) -> None:
        async with self._server.client() as client:
            for found in await client.client_list():
                if found["name"] == f"tidegate:{pod}":
                    try:
                        await client.client_kill_filter(_id=found["id"])
                    except RedisError:  # gone by itself
                        pass

    @staticmethod
    def _revive(proxy: Proxy) -> None:
        """What was swallowed stays lost, so no byte may follow on these connections."""
        proxy.cut()
        proxy.up.flow()
        proxy.down.flow()

    async def _hurt_server(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL_REDIS:
                await self._server.kill()
                await asyncio.sleep(fault.seconds)
                await self._server.restart()
            case Kind.STOP_REDIS:
                await self._server.stop()
                await asyncio.sleep(fault.seconds)
                await self._server.restart()
            case Kind.PAUSE_REDIS:
                self._server.pause()
                await asyncio.sleep(fault.seconds)
                self._server.resume()
            case _:
                async with self._server.client() as client:
                    await client.script_flush()

    async def _hurt_stream(self, fault: Fault) -> None:
        streams = self._streams()
        if not streams:
            return
        key = streams[int(fault.chance * len(streams))]
        operation = key.partition(":")[2]
        struck = [v for v in self._viewers() if v.operation == operation]
        self._note(fault, struck)
        async with self._server.client() as client:
            try:
                await self._hurt_group(client, fault, key)
            except RedisError:  # no such stream or group at the moment
                pass

    async def _hurt_group(self, client: redis.asyncio.Redis, fault: Fault, key: str) -> None:
        match fault.kind:
            case Kind.DESTROY_GROUP:
                await client.xgroup_destroy(key, GROUP)
            case Kind.REWIND_GROUP:
                await client.xgroup_setid(key, GROUP, "0")
            case Kind.SKIP_GROUP:
                await client.xgroup_setid(key, GROUP, "$")
            case _:
                for _ in range(20):
                    await client.xreadgroup(GROUP, "stranger", {key: ">"}, count=10, noack=True)
