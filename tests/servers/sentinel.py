"""A primary with replicas, watched by three real Sentinels that are quick to act.

A Sentinel waits `DOWN_AFTER_MS` before it calls the primary dead; election and promotion take one
to two seconds more. `failed_over` waits for the Sentinels' own announcement, not for a guess.
Ready means that every Sentinel knows the primary, all replicas and both of its colleagues: one that
does not could not agree to a failover. That takes 1 to 2 s.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Self

import redis.asyncio
from redis.exceptions import RedisError

from tests.harness.waiting import until
from tests.servers.binaries import Binary
from tests.servers.ports import free_port
from tests.servers.standalone import PLAIN, Options, Server

DOWN_AFTER_MS = 1000
FAILOVER_TIMEOUT_MS = 3000
#: A Sentinel that stood still for 2 s, as on a busy machine, mistrusts its clock and does nothing
#: for 30 s more (TILT): longer than anybody waits for a failover.
PERIODS_MS = {"info-period": 1000, "publish-period": 500, "tilt-period": 1000}
READY_TIMEOUT_S = 60.0


class SentinelError(Exception):
    """The Sentinels did not come to agree in time."""


class Sentinels:
    """Use as an async context manager, or `await start()` and `close()`.

    `servers[0]` is the first primary; after a failover ask `primary()`.
    """

    name = "tidegate"

    def __init__(
        self,
        binary: Binary,
        options: Options = PLAIN,
        *,
        replicas: int = 1,
        sentinel_password: str | None = None,
    ) -> None:
        """`options` are the servers', whose password is another than the Sentinels' own."""
        self.binary = binary
        self._password = sentinel_password
        first = Server(binary, _fast(options), port=free_port())
        following: dict[str, str | int] = {"replicaof": f"{first.host} {first.port}"}
        others = [
            Server(binary, _fast(options, following), port=free_port()) for _ in range(replicas)
        ]
        self.servers = [first, *others]
        self.sentinels = [self._sentinel(first) for _ in range(3)]

    def _sentinel(self, primary: Server) -> Server:
        watch: dict[str, str | int] = {
            f"sentinel monitor {self.name}": f"{primary.host} {primary.port} 2",
            f"sentinel down-after-milliseconds {self.name}": DOWN_AFTER_MS,
            f"sentinel failover-timeout {self.name}": FAILOVER_TIMEOUT_MS,
            f"sentinel parallel-syncs {self.name}": 1,
        }
        if primary.options.password is not None:
            watch[f"sentinel auth-pass {self.name}"] = f'"{primary.options.password}"'
        if self._password is not None:  # what they say to each other
            watch["sentinel sentinel-pass"] = f'"{self._password}"'
        options = Options(
            password=self._password,
            config=watch,
            program_arguments=("--sentinel",),
            databases=False,
        )
        return Server(self.binary, options, port=free_port())

    @property
    def url(self) -> str:
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{self.name}"

    # --- life

    async def start(self) -> Self:
        await asyncio.gather(*(server.start() for server in self.servers))
        # A Sentinel asks for replicas when it meets the primary and then only every 10 s.
        await self._come_true(self._connected, self.servers)
        await asyncio.gather(*(sentinel.start() for sentinel in self.sentinels))
        for sentinel in self.sentinels:
            # A primary that comes back is made a replica after four hello periods: 2 s, not 8.
            for what, period_ms in PERIODS_MS.items():
                await self._do(sentinel, "SENTINEL", "DEBUG", what, period_ms)
        await self._come_true(self._agreed, self.sentinels)
        return self

    def close(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.close()

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    async def intact(self) -> bool:
        """Everybody runs, agrees, and the first server is the primary still."""
        if not all(await asyncio.gather(*(server.intact() for server in self.servers))):
            return False
        if not all(sentinel.running for sentinel in self.sentinels):
            return False
        try:
            return await self._agreed() and await self.primary() is self.servers[0]
        except (RedisError, OSError, SentinelError):
            return False

    async def wipe(self) -> None:
        await (await self.primary()).wipe()
        await self.synced()

    # --- who is who

    async def primary(self) -> Server:
        """Whom the first running Sentinel names."""
        sentinel = next(s for s in self.sentinels if s.running)
        _, port = await self._do(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.name)
        found = next((server for server in self.servers if server.port == int(port)), None)
        if found is None:
            raise SentinelError(f"the Sentinels name port {port}, which is none of ours")
        return found

    async def synced(self) -> None:
        """Wait until every replica has acknowledged all that the primary wrote so far."""
        primary = await self.primary()
        alive = sum(server.running for server in self.servers) - 1
        async with primary.client() as client:
            # WAIT counts what this connection wrote: write something that nobody reads.
            await client.execute_command("PUBLISH", "tidegate-test", "")
            await client.execute_command("WAIT", alive, int(READY_TIMEOUT_S * 1000))

    async def demoted(self, server: Server) -> None:
        """Wait until the Sentinels have made a former primary a replica of the new one."""

        async def is_replica() -> bool:
            try:
                return str((await self._do(server, "ROLE"))[0]) == "slave"
            except RedisError:  # a server that changes its role closes its connections
                return False

        await self._come_true(is_replica, [server])

    # --- changes

    @asynccontextmanager
    async def failed_over(self, timeout_s: float = 30) -> AsyncIterator[None]:
        """Do the harm inside; leaving waits until every running Sentinel announced a new primary.

        async with sentinels.failed_over():
            await (await sentinels.primary()).kill()
        """
        async with asyncio.timeout(timeout_s):
            watchers = [sentinel.client() for sentinel in self.sentinels if sentinel.running]
            ears = [watcher.pubsub() for watcher in watchers]
            try:
                for ear in ears:
                    await ear.subscribe("+switch-master")
                    await _next(ear, "subscribe")
                yield
                for ear in ears:
                    await _next(ear, "message")
            finally:
                for ear in ears:
                    await ear.aclose()
                for watcher in watchers:
                    await watcher.aclose()

    async def fail_over(self) -> Server:
        """An ordered failover, as an administrator asks for it; returns the new primary."""
        sentinel = next(s for s in self.sentinels if s.running)
        async with self.failed_over():
            await self._do(sentinel, "SENTINEL", "FAILOVER", self.name)
        return await self.primary()

    async def move(self, server: Server) -> None:
        """Let the name mean another server; the old one is not told, and goes on to take writes."""
        await self._do(server, "REPLICAOF", "NO", "ONE")
        for sentinel in self.sentinels:
            await self._do(sentinel, "SENTINEL", "REMOVE", self.name)
            await self._do(sentinel, "SENTINEL", "MONITOR", self.name, server.host, server.port, 2)

    # --- inside

    async def _come_true(
        self, holds: Callable[[], Awaitable[bool]], concerned: Sequence[Server]
    ) -> None:
        try:
            await until(holds, within_s=READY_TIMEOUT_S)
        except AssertionError:
            tails = "\n".join(server.process.log_tail(15) for server in concerned)
            raise SentinelError(f"no agreement in {READY_TIMEOUT_S:.0f} s\n{tails}") from None

    async def _connected(self) -> bool:
        """The first primary counts every replica as online."""
        role = await self._do(self.servers[0], "ROLE")
        return role[0] == "master" and len(role[2]) == len(self.servers) - 1

    async def _agreed(self) -> bool:
        for sentinel in self.sentinels:
            raw = await self._do(sentinel, "SENTINEL", "MASTER", self.name)
            state = raw if isinstance(raw, dict) else dict(zip(raw[::2], raw[1::2], strict=True))
            others = (int(state["num-other-sentinels"]), int(state["num-slaves"]))
            if others != (len(self.sentinels) - 1, len(self.servers) - 1):
                return False
            if state["flags"] != "master":
                return False
        for server in self.servers[1:]:
            role = await self._do(server, "ROLE")
            if role[0] == "slave" and role[3] != "connected":
                return False
        return True

    async def _do(self, server: Server, *command: Any) -> Any:
        client = server.client(decode_responses=True)
        client.response_callbacks.clear()
        async with client:
            return await client.execute_command(*command)


def _fast(options: Options, more: dict[str, str | int] | None = None) -> Options:
    config = {"repl-diskless-sync-delay": 0, **(more or {}), **(options.config or {})}
    return replace(options, config=config)


async def _next(ear: "redis.asyncio.client.PubSub", kind: str) -> None:
    async for message in ear.listen():
        if message["type"] == kind:
            return
