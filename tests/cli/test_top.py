"""`tidegate top` as a process, against real replicas, and what else may be behind an address."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.cli.command import Done, finish, invoke, launch, start
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.ports import free_port
from tests.servers.standalone import Server

TOKEN = "a token of some length for the admin port"
PATIENCE = "from tidegate.cli import main, top_samples; top_samples.TIMEOUT_S = 15.0"
PATIENT = (sys.executable, "-c", f"{PATIENCE}; main.app(prog_name='tidegate')")


@pytest.fixture
async def backend(redis_server: Server) -> AsyncIterator[Backend]:
    async with redis_server.client() as client:
        yield Backend(client)


def admin(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.admin_port}"


@asynccontextmanager
async def publishing(backend: Backend, operation: str) -> AsyncIterator[None]:
    """Fifty entries a second, for as long as it is of interest."""

    over = asyncio.Event()

    async def publish() -> None:
        while not over.is_set():
            await backend.publish(operation, n=1)
            await asyncio.sleep(0.02)

    # Told to end and not cancelled: redis-py on Python 3.11 can lose a cancellation.
    task = asyncio.create_task(publish())
    try:
        yield
    finally:
        over.set()
        await task


async def top_once(*arguments: str, **env: str) -> Done:
    """`tidegate top --once`, which takes no replica for dead that is held up with its test."""
    return await finish(await launch(PATIENT, "top", "--once", *arguments, **env))


def reading(done: Done) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.out)
    return found


async def test_replicas_and_operations_with_their_rates(
    redis_server: Server, backend: Backend
) -> None:
    async with (
        Replica(redis_server.url, pod="one") as one,
        Replica(redis_server.url, pod="two") as two,
        one.watch("busy") as a,
        two.watch("busy") as b,
        two.watch("quiet") as c,
    ):
        for viewer in (a, b, c):
            await viewer.state()
        # So many before that a total, or one divided by the time, is no rate of now.
        (*_, last) = await backend.publish_many("busy", 2_000)
        for viewer in (a, b):
            await viewer.until_id(last)
        async with publishing(backend, "busy"):
            urls = ("--url", admin(one), "--url", admin(two))
            # Long enough that a pause of this process is only a part of it.
            done = await top_once("--json", "--interval", "3", *urls)

    assert done.code == 0, done
    first, second = reading(done)["replicas"]
    assert (first["name"], first["state"], first["connections"]) == ("one", "ready", 1)
    assert (second["name"], second["connections"], second["operations"]) == ("two", 2, 2)
    for replica in (first, second):
        assert 5 < replica["entries_per_s"] < 100
        assert 5 < replica["deliveries_per_s"] < 100
        assert replica["bytes_per_s"] > 100
        assert 0 < replica["latency_p50_s"] <= replica["latency_p99_s"] < 5
        assert (replica["redis_up"], replica["redis_links"]) == (1, 1)
    busy, quiet = reading(done)["operations"]
    assert (busy["operation"], busy["viewers"], busy["replicas"]) == ("busy", 2, 2)
    assert 5 < busy["entries_per_s"] < 100
    assert busy["age_s"] < 5
    assert (quiet["operation"], quiet["entries_per_s"], quiet["age_s"]) == ("quiet", 0, None)


async def test_the_table_is_for_people_and_shows_who_is_dead(redis_server: Server) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    async with Replica(redis_server.url, pod="one") as one, one.watch("42") as viewer:
        await viewer.state()
        urls = ("--url", admin(one), "--url", dead)
        done = await top_once("--interval", "0.2", *urls)

    assert done.code == 0, done
    lines = done.out.splitlines()
    assert lines[0].split() == [
        *("replica", "state", "up", "conns", "live", "lagging", "ops", "entries/s", "sent/s"),
        *("bytes/s", "p50", "p99", "loop", "cpu", "memory", "redis", "refused/s", "gaps/s"),
    ]
    assert lines[1].split()[:2] == ["one", "ready"]
    assert lines[2].split()[:4] == [dead.removeprefix("http://"), "dead", "-", "-"]
    assert lines[3].startswith(f"{dead} is dead: ")
    assert any(line.split()[:3] == ["42", "not", "started"] for line in lines)


@pytest.mark.parametrize("columns", [50, 80])
async def test_a_pipe_has_the_width_of_the_terminal_behind_it(
    redis_server: Server, columns: int
) -> None:
    async with Replica(redis_server.url, pod="one") as one, one.watch("4" * 60) as viewer:
        await viewer.state()
        done = await top_once(
            *("--interval", "0.2", "--url", admin(one)), COLUMNS=str(columns), TERM="xterm"
        )
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= columns
    assert {"replica", "state", "conns", "p99"} <= set(lines[0].split())
    assert any(line.startswith("444") and "…" in line for line in lines)


@pytest.mark.parametrize("given", [None, "another token"])
async def test_without_the_token_it_says_what_to_do(
    redis_server: Server, given: str | None
) -> None:
    env = {} if given is None else {"TIDEGATE_SERVER__ADMIN_TOKEN": given}
    async with Replica(redis_server.url, server={"admin_token": TOKEN}) as replica:
        done = await top_once("--interval", "0.2", "--url", admin(replica), **env)

    assert done.code == 2
    assert "TIDEGATE_SERVER__ADMIN_TOKEN" in done.out
    assert "--operations 0" in done.out
    assert TOKEN not in done.out + done.err
    assert "ready" in done.out  # the figures are open to all


async def test_with_the_token_it_tells_all(redis_server: Server) -> None:
    async with (
        Replica(redis_server.url, pod="one", server={"admin_token": TOKEN}) as replica,
        replica.watch("42") as viewer,
    ):
        await viewer.state()
        arguments = ("--json", "--interval", "0.2", "--url", admin(replica))
        done = await top_once(*arguments, TIDEGATE_SERVER__ADMIN_TOKEN=TOKEN)
        without = await top_once(*arguments, "--operations", "0")

    assert (done.code, without.code) == (0, 0)
    assert [row["operation"] for row in reading(done)["operations"]] == ["42"]
    assert reading(done)["replicas"][0]["name"] == "one"
    assert reading(without)["operations"] == []


async def test_a_replica_that_leaves_and_comes_back_is_shown_so(redis_server: Server) -> None:
    async with Replica(redis_server.url, pod="one") as stays:
        replica = Replica(redis_server.url, pod="two")
        await replica.start()
        urls = ("--url", admin(stays), "--url", admin(replica))
        process = await start("top", "--json", "--interval", "0.2", *urls)
        assert process.stdout is not None

        async def until_states(*wanted: str) -> None:
            async with asyncio.timeout(20):
                while True:
                    line = await process.stdout.readline()  # type: ignore[union-attr]
                    states = [row["state"] for row in json.loads(line)["replicas"]]
                    if states == list(wanted):
                        return

        await until_states("ready", "ready")
        await replica.stop()
        await until_states("ready", "dead")
        await replica.start()
        await until_states("ready", "ready")
        await replica.stop()
        process.send_signal(signal.SIGINT)
        done = await finish(process)

    assert done.code == 130
    assert "Traceback" not in done.err


async def test_nobody_answers(redis_server: Server) -> None:
    done = await invoke(
        "top", "--once", "--interval", "0.2", "--url", f"http://127.0.0.1:{free_port()}"
    )

    assert done.code == 1
    assert "no replica answers" in done.err


async def test_without_metrics_it_says_which_setting_does_that(redis_server: Server) -> None:
    async with Replica(redis_server.url, metrics={"enabled": False}) as replica:
        done = await top_once("--interval", "0.2", "--url", admin(replica))

    assert done.code == 1
    assert "is dead: metrics.enabled is false there" in done.out


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"tidegate_ready 1\n" * 400_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\ntidegate_ready \x1b[2Jnan\n..",
        b"\x00\x01\x02",
        b"",
    ],
)
async def test_what_is_no_replica_is_dead_with_a_reason(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        try:
            await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await invoke(
            "top", "--once", "--interval", "0.2", "--url", f"http://127.0.0.1:{port}"
        )

    assert done.code == 1, done
    assert f"http://127.0.0.1:{port} is dead: " in done.out
    assert "\x1b" not in done.out
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    "url",
    [
        *("127.0.0.1:9090", "ftp://127.0.0.1:9090", "http://127.0.0.1", "http://:9090"),
        *("http://127.0.0.1:99999", "http://127.0.0.1:9090/metrics", "http://a:b@127.0.0.1:9090"),
    ],
)
async def test_addresses_that_cannot_be_are_refused(url: str) -> None:
    done = await invoke("top", "--once", "--url", url)

    assert done.code == 2
    assert "--url" in done.err
