"""Every row of the table of close codes, provoked for real and seen by a WebSocket client.

A row without an entry in `PROVOKED` fails, and so does an entry without a row. Where a browser is
told why, the `error` frame before the close is looked at too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, token, watch
from tidegate.gateway import hub
from tidegate.model import close_codes
from tidegate.model.close_codes import CLOSE_CODES, ComeBack


class Scene(NamedTuple):
    """A server, and somebody who writes to it."""

    server: Server
    backend: Backend


class End(NamedTuple):
    """What the client saw last: the code of the `error` frame, if there was one, and the close."""

    code: int
    said: str | None
    retry: bool | None


async def end_of(viewer: Viewer) -> End:
    frames, close = await viewer.rest()
    errors = [frame["data"] for frame in frames if frame["type"] == "error"]
    if not errors:
        return End(close.code, None, None)
    return End(close.code, errors[-1]["code"], errors[-1]["retry"])


@asynccontextmanager
async def watching(scene: Scene, **groups: Any) -> AsyncIterator[tuple[Replica, Viewer]]:
    async with Replica(scene.server.url, **groups) as replica, replica.watch("42") as viewer:
        await viewer.state()
        yield replica, viewer


async def refusal(viewer: Viewer) -> End:
    async with viewer:
        return await end_of(viewer)


# --- one for each row


async def finished(scene: Scene) -> End:
    async with watching(scene) as (_, viewer):
        await scene.backend.finish("42")
        return await end_of(viewer)


async def abnormal(scene: Scene) -> End:
    """As the end of its process: the connection breaks."""
    async with watching(scene) as (replica, viewer):
        (connection,) = replica.runtime._limiter._inside
        connection.protocol.transport.abort()  # type: ignore[attr-defined]
        return await end_of(viewer)


async def invalid_data(scene: Scene) -> End:
    async with watching(scene) as (_, viewer):
        await viewer.socket.send(b'{"type":"\xff"}', text=True)
        return await end_of(viewer)


async def too_big(scene: Scene) -> End:
    async with watching(scene) as (replica, viewer):
        await viewer.say("x" * (replica.settings.viewer.max_message_bytes + 1))
        return await end_of(viewer)


async def keepalive(scene: Scene) -> End:
    """A client that hangs: its pongs come too late."""
    quick = {"ping_interval_s": 0.3, "ping_timeout_s": 0.3}
    async with watching(scene, viewer=quick) as (replica, viewer):
        viewer.socket.transport.pause_reading()
        await until(lambda: len(replica.runtime._limiter) == 0, "given up")
        viewer.socket.transport.resume_reading()
        return await end_of(viewer)


async def draining(scene: Scene) -> End:
    async with watching(scene) as (replica, viewer):
        await replica.stop()
        return await end_of(viewer)


async def overloaded(scene: Scene) -> End:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    async with Replica(nobody, wait_for_redis=False) as replica:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(hub, "JOIN_PATIENCE_S", 0.3)
            return await refusal(replica.watch("42"))


async def bad_request(scene: Scene) -> End:
    async with Replica(scene.server.url) as replica:
        return await refusal(replica.watch("{42}"))


async def unauthenticated(scene: Scene) -> End:
    async with guarded(scene.server) as replica:
        return await refusal(watch(replica, "42", "not.a.token"))


async def forbidden(scene: Scene) -> End:
    async with guarded(scene.server, source={"kind": "claims"}) as replica:
        return await refusal(watch(replica, "42", token("u", operations=["43"])))


async def not_found(scene: Scene) -> End:
    source = {"kind": "redis", "redis_prefix": "operation:"}
    async with guarded(scene.server, source=source) as replica:
        return await refusal(watch(replica, "42", token("u")))


async def slow(scene: Scene) -> End:
    policy = {
        "lagging_policy": "disconnect",
        "lagging_timeout_s": 0.2,
        "high_water_bytes": 4096,
        "low_water_bytes": 1024,
        "notsent_lowat_bytes": 4096,
        "close_timeout_s": 20,
    }
    async with watching(scene, viewer=policy) as (replica, viewer):
        viewer.socket.transport.pause_reading()
        while replica.hub.counters.closes["slow"] == 0:
            await scene.backend.publish_many("42", 50, pad=20_000, type_="log")
        viewer.socket.transport.resume_reading()
        return await end_of(viewer)


async def replaced(scene: Scene) -> End:
    slots = {"limit": 1, "policy": "replace_oldest"}
    async with (
        guarded(scene.server, slots=slots) as replica,
        watch(replica, "42", token("u")) as oldest,
    ):
        await oldest.state()
        async with watch(replica, "42", token("u")) as newest:
            await newest.state()
            return await end_of(oldest)


async def expired(scene: Scene) -> End:
    await scene.backend.publish("42")
    async with watching(scene) as (_, viewer):
        await scene.backend.delete("42")
        return await end_of(viewer)


async def connection_limit(scene: Scene) -> End:
    async with (
        guarded(scene.server, slots={"limit": 1}) as replica,
        watch(replica, "42", token("u")) as first,
    ):
        await first.state()
        return await refusal(watch(replica, "42", token("u")))


PROVOKED: dict[close_codes.CloseCode, Callable[[Scene], Awaitable[End]]] = {
    close_codes.FINISHED: finished,
    close_codes.ABNORMAL: abnormal,
    close_codes.INVALID_DATA: invalid_data,
    close_codes.TOO_BIG: too_big,
    close_codes.KEEPALIVE: keepalive,
    close_codes.DRAINING: draining,
    close_codes.OVERLOADED: overloaded,
    close_codes.BAD_REQUEST: bad_request,
    close_codes.UNAUTHENTICATED: unauthenticated,
    close_codes.FORBIDDEN: forbidden,
    close_codes.NOT_FOUND: not_found,
    close_codes.SLOW: slow,
    close_codes.REPLACED: replaced,
    close_codes.EXPIRED: expired,
    close_codes.CONNECTION_LIMIT: connection_limit,
}
#: Nothing is said before: the operation has ended, the way is broken, or the peer's own mistake.
UNSAID = {1000, 1006, 1007, 1009, 1011, 1012}


def test_every_row_is_provoked() -> None:
    assert set(PROVOKED) == set(CLOSE_CODES.values())
    assert all(row.name == provoke.__name__ for row, provoke in PROVOKED.items())


@pytest.mark.parametrize("row", CLOSE_CODES.values(), ids=lambda row: f"{row.code}-{row.name}")
async def test_it_is_seen_as_the_table_has_it(
    redis_server: Server, backend: Backend, row: close_codes.CloseCode
) -> None:
    async with asyncio.timeout(60):
        end = await PROVOKED[row](Scene(redis_server, backend))
    assert end.code == row.code
    if row.code in UNSAID:
        assert end.said is None
    elif row is not close_codes.SLOW:  # what could be said waits behind what it does not read
        assert end.said
        assert end.retry is (row.come_back is not ComeBack.NO)
