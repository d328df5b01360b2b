"""Proof that the servers of tests/servers are what they say, by real commands on each of them.

Whoever doubts a fault test looks here first: a kill loses nothing that was acknowledged, a pause is
silent, a cut is a reset, a lost push leaves the rest whole, and nothing outlives the run.
"""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AskError, MovedError, ReadOnlyError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.harness.waiting import PATIENCE_S, until
from tests.servers import binaries, standalone
from tests.servers.cluster import Cluster
from tests.servers.ports import free_port, is_free
from tests.servers.process import Process, ProcessError
from tests.servers.proxy import Proxy
from tests.servers.relay_loss import PushFault, frame_end, push_kind
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Options, Server
from tests.servers.tls import Certificates

STREAM = "operation-progress:1"


# --- standalone


async def test_a_server_answers_on_each_binary(any_server: Server) -> None:
    async with any_server.client(decode_responses=True) as client:
        entry = await client.xadd(STREAM, {"message": "{}"})
        assert await client.xrange(STREAM) == [(entry, {"message": "{}"})]


@pytest.mark.parametrize("turn", [1, 2])
async def test_the_shared_server_is_empty_for_every_test(redis_server: Server, turn: int) -> None:
    async with redis_server.client() as client:
        assert await client.dbsize() == 0
        await client.set("left", turn)


async def test_a_broken_shared_server_is_replaced(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await redis_server.intact()
    async with redis_server.client() as client:
        await client.config_set("maxmemory", "64mb")
    assert not await redis_server.intact()
    redis_server.pause()
    monkeypatch.setattr(standalone, "ANSWER_S", 0.2)
    assert not await redis_server.intact()
    await redis_server.kill()
    assert not await redis_server.intact()


async def test_the_next_test_gets_a_good_one(redis_server: Server) -> None:
    assert await redis_server.intact()


@pytest.mark.parametrize(
    "part",
    [
        pytest.param("valkey9", marks=pytest.mark.real("valkey9")),
        pytest.param("redis7.0", marks=[pytest.mark.real("redis7.0"), pytest.mark.full]),
    ],
)
async def test_an_acknowledged_write_outlives_kill_9(part: str) -> None:
    async with Server(binaries.require(part), Options(durable=True)) as server:
        async with server.client() as client:
            for number in range(1000):
                await client.xadd(STREAM, {"n": number})
        port, pid = server.port, server.pid
        await server.kill()
        assert server.process.returncode == -signal.SIGKILL
        with pytest.raises(RedisConnectionError):
            async with server.client() as client:
                await client.ping()
        await server.restart()
        assert (server.port, server.pid == pid) == (port, False)
        async with server.client() as client:
            assert await client.xlen(STREAM) == 1000


@pytest.mark.real("valkey9")
async def test_a_server_without_a_log_forgets() -> None:
    async with Server(binaries.embedded()) as server:
        async with server.client() as client:
            await client.set("a", 1)
        await server.kill()
        await server.restart()
        async with server.client() as client:
            assert await client.dbsize() == 0


async def test_a_paused_server_is_silent_and_comes_back(redis_server: Server) -> None:
    async with redis_server.client() as client:
        await client.ping()
        redis_server.pause()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.ping()
        # The kernel still accepts for it: a stalled server looks alive from outside.
        _, writer = await asyncio.open_connection(redis_server.host, redis_server.port)
        writer.close()
        redis_server.resume()
        assert await client.ping()


@pytest.mark.real("valkey9")
async def test_password_and_unix_socket() -> None:
    options = Options(password="p ss/w:rd", unix_socket=True)
    async with Server(binaries.embedded(), options) as server:
        for url in (server.url, server.unix_url):
            async with redis.asyncio.Redis.from_url(url) as client:
                assert await client.ping()
        bare = redis.asyncio.Redis(host=server.host, port=server.port, retry=Retry(NoBackoff(), 0))
        async with bare:
            with pytest.raises(RedisError, match=r"[Aa]uth"):
                await bare.ping()


@pytest.mark.real("tls-server")
async def test_tls_with_the_right_authority_only(
    certificates: Certificates, tmp_path: Path
) -> None:
    options = Options(tls=certificates)
    async with Server(binaries.require("tls-server"), options) as server:
        assert server.url.startswith("rediss://")
        async with server.client() as client:
            assert await client.ping()
        stranger = Certificates(tmp_path / "stranger")
        async with server.client(ssl_ca_certs=str(stranger.ca_file)) as client:
            with pytest.raises(RedisConnectionError) as refused:
                await client.ping()
        assert "certificate verify failed" in str(refused.value)


@pytest.mark.real("valkey9")
async def test_a_server_that_cannot_start_says_why() -> None:
    server = Server(binaries.embedded(), Options(config={"no-such-setting": 1}))
    with pytest.raises(ProcessError, match="no-such-setting"):
        async with server:
            pass
    assert not server.directory.exists()


@pytest.mark.real("valkey9")
async def test_a_chosen_port_that_is_taken_is_an_error_and_a_found_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind((Server.host, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        server = Server(binaries.embedded(), port=port)
        with pytest.raises(ProcessError, match="in use"):
            async with server:
                pass
        server = Server(binaries.embedded())
        server.port = port
        async with server:
            assert server.port != port


# --- processes


async def test_a_process_is_stopped_killed_and_awaited(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); "
    stubborn += "signal.pause()"
    async with Process([sys.executable, "-c", stubborn], log_file=tmp_path / "log") as process:
        await until(lambda: "up" in process.log_tail())
        with pytest.raises(ProcessError, match="did not stop"):
            await process.stop(timeout_s=0.1)
        assert process.returncode == -signal.SIGKILL
    async with Process(
        [sys.executable, "-c", "print('bye')"], log_file=tmp_path / "log2"
    ) as process:
        assert await process.wait(10) == 0
        assert process.log_tail() == "bye"


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: PR_SET_PDEATHSIG")
@pytest.mark.real("valkey9")
def test_no_server_outlives_a_run_that_is_killed() -> None:
    """A run of our own starts a server and is killed with SIGKILL: the server must go too."""
    run = """
        import asyncio, signal, os
        from tests.servers import binaries
        from tests.servers.standalone import Server
        async def main():
            async with Server(binaries.embedded()) as server:
                print(server.pid, server.directory, flush=True)
                await asyncio.Event().wait()
        asyncio.run(main())
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(run)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as child:
        assert child.stdout is not None
        pid, directory = child.stdout.readline().split()
        handle = os.pidfd_open(int(pid))
        child.kill()
    try:
        signalled = select_readable(handle, 10)
    finally:
        os.close(handle)
        subprocess.run(["rm", "-rf", directory], check=True)
    assert signalled, f"server {pid} is still there"


def select_readable(handle: int, timeout_s: float) -> bool:
    """A pidfd becomes readable when its process has ended."""
    return bool(select.select([handle], [], [], timeout_s)[0])


def test_free_ports_are_free_and_different() -> None:
    ports = {free_port() for _ in range(50)}
    assert len(ports) == 50
    assert all(is_free(port) for port in ports)


# --- cluster


async def test_cluster_serves_every_slot(cluster: Cluster) -> None:
    layout = await cluster.layout()
    async with cluster.client(decode_responses=True) as client:
        for server in cluster.servers:
            for key in cluster.keys_on(server, 3, layout=layout):
                await client.xadd(key, {"n": 1})
                assert await cluster.owner(key) is server
                async with server.client() as direct:
                    assert await direct.xlen(key) == 1


async def test_cluster_slot_moves_by_ask_and_then_moved(cluster: Cluster) -> None:
    slot = cluster.slot(STREAM)
    async with cluster.client(decode_responses=True) as client:
        await client.xadd(STREAM, {"n": 1})
        source = await cluster.owner(STREAM)
        target = await cluster.other_than(source)
        assert await cluster.begin_move(slot, target) is source
        assert await cluster.move_keys(slot, source, target) == 1
        async with source.client() as direct:
            with pytest.raises(AskError):
                await direct.xlen(STREAM)
        await client.xadd(STREAM, {"n": 2})
        await cluster.finish_move(slot, source, target)
        async with source.client() as direct:
            with pytest.raises(MovedError):
                await direct.xlen(STREAM)
        assert await client.xlen(STREAM) == 2
        assert await cluster.owner(STREAM) is target
    assert not await cluster.intact()


async def test_cluster_replica_takes_over(cluster_with_replicas: Cluster) -> None:
    cluster = cluster_with_replicas
    primary = await cluster.owner(STREAM)
    [replica] = await cluster.replicas_of(primary)
    async with primary.client() as client:
        await client.xadd(STREAM, {"n": 1})
        await client.execute_command("WAIT", 1, 5000)
    await primary.kill()
    await cluster.take_over(replica)
    assert await cluster.owner(STREAM) is replica
    async with replica.client() as client:
        assert await client.xlen(STREAM) == 1


@pytest.mark.full
@pytest.mark.real("redis7.0")
async def test_cluster_of_the_oldest_server() -> None:
    async with Cluster(binaries.require("redis7.0")) as cluster:
        await cluster.move_slot(
            cluster.slot(STREAM), await cluster.other_than(await cluster.owner(STREAM))
        )
        async with cluster.client() as client:
            await client.xadd(STREAM, {"n": 1})


# --- sentinel


async def test_sentinels_replace_a_killed_primary(sentinel: Sentinels) -> None:
    first = await sentinel.primary()
    async with first.client() as client:
        await client.xadd(STREAM, {"n": 1})
    await sentinel.synced()
    async with sentinel.failed_over():
        await first.kill()
    second = await sentinel.primary()
    assert second is not first
    async with second.client() as client:
        assert await client.xlen(STREAM) == 1
    assert not await sentinel.intact()


async def test_sentinels_fail_over_on_request_and_the_old_primary_refuses_writes(
    sentinel: Sentinels,
) -> None:
    first = await sentinel.primary()
    second = await sentinel.fail_over()
    assert second is not first
    await sentinel.demoted(first)
    async with first.client() as client:
        with pytest.raises(ReadOnlyError):
            await client.set("a", 1)


# --- proxy


@pytest.fixture
async def proxy(redis_server: Server) -> AsyncIterator[Proxy]:
    async with Proxy((redis_server.host, redis_server.port)) as proxy:
        yield proxy


def through(proxy: Proxy, protocol: int = 3) -> "redis.asyncio.Redis":
    url = f"redis://{proxy.address}/0"
    return redis.asyncio.Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=protocol)


async def test_proxy_passes_everything_both_ways(proxy: Proxy) -> None:
    value = os.urandom(3_000_000)
    async with through(proxy) as client:
        await client.set("a", value)
        assert await client.get("a") == value
        assert proxy.connections == 1
    assert proxy.up.bytes > 3_000_000 < proxy.down.bytes


async def test_proxy_cut_resets_and_new_connections_work(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"PING\r\n")
    assert await reader.readline() == b"+PONG\r\n"
    assert proxy.cut() == 1
    with pytest.raises(ConnectionResetError):
        await reader.readline()
    writer.close()
    assert proxy.connections == 0
    async with through(proxy) as client:
        assert await client.ping()


async def test_proxy_refuses_and_accepts_again(proxy: Proxy) -> None:
    async with through(proxy) as client:
        assert await client.ping()
        await proxy.refuse()
        assert await client.ping(), "an open connection stays"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        await proxy.accept()
        _, writer = await asyncio.open_connection(proxy.host, proxy.port)
        writer.close()


async def test_proxy_resets_when_the_target_is_dead(proxy: Proxy, redis_server: Server) -> None:
    await redis_server.kill()
    with pytest.raises(RedisConnectionError):
        async with through(proxy) as client:
            await client.ping()


@pytest.mark.parametrize("way", ["up", "down"])
async def test_proxy_delays_one_direction(proxy: Proxy, way: str) -> None:
    async with through(proxy) as client:
        await client.ping()
        getattr(proxy, way).delay(0.15)
        start = time.monotonic()
        assert await client.ping()
        assert 0.15 <= time.monotonic() - start < 5
        getattr(proxy, way).delay(0)
        assert await client.ping()


async def test_proxy_delay_keeps_the_order_when_it_shrinks(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    proxy.up.delay(0.1)
    writer.write(b"ECHO first\r\n")
    await until(lambda: proxy.up.bytes > 0)
    proxy.up.delay(0)
    writer.write(b"ECHO second\r\n")
    assert [await reader.readline() for _ in range(4)][1::2] == [b"first\r\n", b"second\r\n"]
    writer.close()


async def test_proxy_stall_fills_the_senders_buffers_and_loses_nothing(proxy: Proxy) -> None:
    async with through(proxy) as client:
        await client.set("a", b"x" * 10_000_000)
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    writer.write(b"PING\r\n")
    await reader.readline()
    proxy.down.stall()
    before = proxy.down.bytes
    writer.write(b"GET a\r\n")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await reader.readline()
    assert proxy.down.bytes == before
    proxy.down.flow()
    assert len(await reader.readexactly(len(b"$10000000\r\n") + 10_000_002)) > 10_000_000
    writer.close()


async def test_proxy_swallows_and_the_connection_looks_alive(proxy: Proxy) -> None:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    proxy.up.swallow()
    writer.write(b"PING\r\n")
    await until(lambda: proxy.up.swallowed == len(b"PING\r\n"))
    proxy.up.flow()
    writer.write(b"ECHO after\r\n")
    await reader.readline()
    assert await reader.readline() == b"after\r\n"
    writer.close()


async def test_proxy_swallowed_close_is_told_when_bytes_flow_again(proxy: Proxy) -> None:
    _, writer = await asyncio.open_connection(proxy.host, proxy.port)
    await until(lambda: proxy.connections == 1)
    proxy.up.swallow()
    writer.close()
    await writer.wait_closed()
    assert proxy.connections == 1
    proxy.up.flow()
    await until(lambda: proxy.connections == 0)


# --- relay loss


@pytest.mark.parametrize("protocol", [2, 3])
async def test_chosen_pushes_are_lost_or_repeated_and_the_rest_is_whole(
    proxy: Proxy, redis_server: Server, protocol: int
) -> None:
    fault = PushFault(b"message", lambda number: (0, 1, 2)[number % 3])
    proxy.down.filter = fault.on_connection
    async with (
        through(proxy, protocol=protocol) as client,
        redis_server.client() as publisher,
        client.pubsub(ignore_subscribe_messages=True) as ear,
    ):
        await ear.subscribe("news")
        await ear.get_message(timeout=PATIENCE_S)
        for number in range(6):
            await publisher.publish("news", number)
        heard = []
        async with asyncio.timeout(10):
            async for message in ear.listen():
                heard.append(int(message["data"]))
                if len(heard) == 6:
                    break
    assert heard == [1, 2, 2, 4, 5, 5]
    assert (fault.seen, fault.lost, fault.repeated) == (6, 2, 2)


@pytest.mark.parametrize(
    "frame",
    [
        b"+OK\r\n",
        b":1\r\n",
        b"_\r\n",
        b"$-1\r\n",
        b"$0\r\n\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*-1\r\n",
        b"*2\r\n*1\r\n:1\r\n$1\r\na\r\n",
        b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n",
        b"|1\r\n+ttl\r\n:3\r\n+value\r\n",
        b">3\r\n$8\r\nsmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n",
    ],
)
def test_a_frame_ends_where_it_ends(frame: bytes) -> None:
    assert frame_end(frame + b"+next\r\n", 0) == len(frame)
    for cut in range(len(frame)):
        assert frame_end(frame[:cut], 0) is None
    assert (push_kind(frame) == b"smessage") == frame.startswith(b">")
