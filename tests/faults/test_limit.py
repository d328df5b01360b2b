"""A user's limit holds over replicas that are killed: three of them behind a plain TCP balancer,
and a crowd of the same user that comes back whenever it may.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from bench import users
from bench.balancer import Backend as Place
from bench.balancer import Balancer
from tests.faults.replicas import Replica
from tests.harness.names import NAMES
from tests.servers.standalone import Server

LIMIT = 10
#: Of one user, all the time: half of them are too many.
CROWD = 20
#: Longer than a replica that lives may be held up.
LEASE_S = 5.0
PATIENCE_S = 40.0


class Crowd:
    """Members of one user; `open` are those who have been let in and not closed."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers
        self.open = 0
        self.most = 0
        self.codes: set[int] = set()
        self.changed = asyncio.Event()

    async def member(self) -> None:
        """Comes again and again."""
        while True:
            try:
                async with connect(self._url, additional_headers=self._headers) as socket:
                    await self._watch(socket)
            except (OSError, InvalidHandshake, ConnectionClosed):
                pass
            await asyncio.sleep(0.2)  # a pace

    async def _watch(self, socket: Any) -> None:
        inside = False
        try:
            async for text in socket:
                if json.loads(text)["type"] == "current_state":
                    inside = True
                    self._count(1)
        finally:
            if inside:
                self._count(-1)
            self.codes.add(socket.close_code or 1006)

    def _count(self, by: int) -> None:
        self.open += by
        self.most = max(self.most, self.open)
        self.changed.set()

    async def until_open(self, wanted: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.open != wanted:
                self.changed.clear()
                await self.changed.wait()


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=pytest.mark.full)])
async def test_a_limit_of_ten_holds_while_replicas_are_killed(
    redis_server: Server, kills: int
) -> None:
    secret = secrets.token_hex(32)
    settings = users.settings(secret, LIMIT) | {
        "slots.lease_s": LEASE_S,
        "slots.renew_s": LEASE_S / 4,
    }
    replicas = [Replica(n, redis_server.url, settings, auth="jwt") for n in range(3)]
    try:
        await asyncio.gather(*(replica.start() for replica in replicas))
        places = [Place(replica.port, replica.admin_port) for replica in replicas]
        async with Balancer(places) as balancer, redis_server.client() as client:
            for place in places:
                await place.until(in_rotation=True)
            url = f"ws://127.0.0.1:{balancer.port}/ws/operations/42"
            crowd = Crowd(url, users.sign_in(secret, "ann"))
            async with asyncio.TaskGroup() as tasks:
                members = [tasks.create_task(crowd.member()) for _ in range(CROWD)]
                await crowd.until_open(LIMIT)
                for replica, place in list(zip(replicas, places, strict=True))[:kills]:
                    await replica.kill()
                    await place.until(in_rotation=False)
                    # The dead one's slots are free a lease later, and taken by those who wait.
                    await crowd.until_open(LIMIT)
                    assert await client.hlen(NAMES.slots_prefix + b"ann") == LIMIT
                    await replica.start()
                    await place.until(in_rotation=True)
                for member in members:
                    member.cancel()
        assert crowd.most == LIMIT
        assert {1006, 4429} <= crowd.codes
        assert [mishap for replica in replicas for mishap in replica.mishaps()] == []
    finally:
        for replica in replicas:
            replica.close()
