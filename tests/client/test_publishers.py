"""Both publishers, under one contract, on real servers."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from tests.client.conftest import Make
from tests.harness.backend import PREFIX, Backend
from tests.harness.replica import Replica
from tests.harness.rights import documented_rights
from tests.harness.waiting import until
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tests.servers.tls import Certificates
from tidegate import Publisher
from tidegate.model.errors import (
    InvalidInput,
    RedisUnavailable,
    SettingsError,
    StreamUnusable,
    WriteUncertain,
)
from tidegate.model.settings import RedisSettings, RedisUrl


async def written(backend: Backend, operation: str = "42") -> list[dict[str, Any]]:
    """What is in the stream."""
    entries: Any = await backend.client.xrange(PREFIX + operation)
    return [
        {"id": entry_id.decode(), **json.loads(fields[b"message"])} for entry_id, fields in entries
    ]


def progress_of(entries: list[dict[str, Any]]) -> list[float]:
    return [e["data"]["progress"] for e in entries if e["type"] == "progress"]


async def test_an_entry_has_the_usual_form_with_cap_and_ttl(
    any_server: Server, publishers: Make
) -> None:
    async with any_server.client() as client:
        backend = Backend(client)
        publisher = publishers(any_server.url, cap=100, ttl_s=60)

        first = await publisher.publish("42", "log", {"line": "ä\u2028\x00", "n": 2**53 + 1})
        for n in range(400):
            await publisher.publish("42", "log", {"n": n})

        assert 100 <= await client.xlen(PREFIX + "42") < 300
        assert 0 < await client.ttl(PREFIX + "42") <= 60
        assert await backend.groups("42") == []  # nobody watches: nothing is left for nobody
        await client.delete(PREFIX + "42")
        again = await publisher.publish("42", "log", {"line": "ä\u2028\x00", "n": 2**53 + 1})
        (entry,) = await written(backend)
        assert entry["id"] == again > first
        assert entry["type"] == "log"
        assert entry["data"] == {"line": "ä\u2028\x00", "n": 2**53 + 1}
        assert datetime.fromisoformat(entry["timestamp"]).tzinfo is UTC


async def test_values_without_a_json_form_of_their_own(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    await publisher.publish(
        "42",
        "log",
        {"at": datetime(2026, 11, 23, tzinfo=UTC), "id": UUID(int=1), "nan": float("nan"), 3: {1}},
    )
    (entry,) = await written(backend)
    assert entry["data"] == {
        "at": "2026-11-23T00:00:00+00:00",
        "id": "00000000-0000-0000-0000-000000000001",
        "nan": None,
        "3": [1],
    }


async def test_a_file_name_that_cannot_be_decoded_does_not_hide_the_end(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    """Its half of a surrogate pair was refused, and with it the entry that ended the operation."""
    publisher = publishers(redis_server.url)
    name = b"caf\xe9".decode(errors="surrogateescape")
    data = {"status": "completed", name: [{"file": name}, (name, "\\udce9")], "n": float("nan")}
    await publisher.publish("42", "operation_completed", data)
    (entry,) = await written(backend)
    assert entry["data"] == {
        "status": "completed", name: [{"file": name}, [name, "\\udce9"]], "n": None,
    }  # fmt: skip
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        (frame,), close = await viewer.rest()
    assert (frame["data"], close.code) == (entry["data"], 1000)


async def test_what_cannot_be_written_is_refused_before_it_is(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"d": deep}
    for operation, type_, data in (
        ("4*2", "log", {}),
        ("", "log", {}),
        ("42", "", {}),
        ("42", "log", {"object": object()}),
        ("42", "log", {"big": 2**70}),
        ("42", "log", deep),
    ):
        with pytest.raises(InvalidInput):
            await publisher.publish(operation, type_, data)
    for wrong in (float("nan"), float("inf"), None, 50, -1, "0.5"):
        with pytest.raises(InvalidInput):
            await publisher.progress("42", wrong)
    assert not await backend.exists("42")

    await backend.client.set(PREFIX + "text", "no stream")
    with pytest.raises(StreamUnusable):
        await publisher.publish("text", "log", {})


async def test_the_last_update_of_a_burst_is_always_sent(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    """Bug B17."""
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        publisher = publishers(redis_server.url, progress_interval_s=0.1)
        for n in range(98):
            await publisher.progress("42", n / 100)

        # Nobody calls anything any more, and it comes all the same.
        while (await viewer.next())["data"].get("progress") != 0.97:
            pass
    assert len(await written(backend)) < 60
    sent = progress_of(await written(backend))
    assert sent == sorted(sent)
    assert sent[0] == 0


async def test_an_end_comes_behind_the_last_progress(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url, progress_interval_s=60)
    for number, end in enumerate(("completed", "failed", "cancelled")):
        operation = f"op-{number}"
        await publisher.progress(operation, 0.1)
        await publisher.progress(operation, 0.9)
        await publisher.progress(operation, current=97, total=100, message="nearly")
        ended = await getattr(publisher, end)(operation, note="bye")

        first, last, terminal = await written(backend, operation)
        assert first["data"] == {"progress": 0.1}
        assert last["data"] == {
            "progress": 0.97,
            "current": 97,
            "total": 100,
            "message": "nearly",
        }
        assert terminal["id"] == ended
        assert terminal["type"] == f"operation_{end}"
        assert (terminal["data"]["status"], terminal["data"]["note"]) == (end, "bye")


async def test_other_entries_do_not_overtake_progress(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url, progress_interval_s=60)
    await publisher.progress("42", 0.1)
    await publisher.progress("42", 0.2)
    await publisher.publish("42", "log", {"line": "after 0.2"})
    await publisher.progress("42", 0.3)
    await publisher.flush()
    await publisher.progress("42", 0.4)
    await publisher.close()
    await publisher.close()

    assert [e["data"].get("progress", "log") for e in await written(backend)] == [
        *(0.1, 0.2, "log", 0.3, 0.4)
    ]
    with pytest.raises(InvalidInput):
        await publisher.publish("42", "log", {})


async def test_a_block_ends_its_operation(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url)
    async with publisher.operation("good", title="Import") as operation:
        await operation.progress(0.5)
        await operation.publish("log", {"line": "x"})
    with pytest.raises(ValueError, match="secret"):
        async with publisher.operation("bad"):
            raise ValueError("secret")
    with pytest.raises(ValueError, match="shown"):
        async with publisher.operation("told", describe=str):
            raise ValueError("shown")
    with pytest.raises(KeyboardInterrupt):
        async with publisher.operation("given-up"):
            raise KeyboardInterrupt
    async with publisher.operation("own") as operation:
        await operation.failed("by hand", row=7)

    good = await written(backend, "good")
    assert [e["type"] for e in good] == [
        *("operation_started", "progress", "log", "operation_completed")
    ]
    assert good[0]["data"] == {"status": "running", "title": "Import"}
    (_, bad) = await written(backend, "bad")
    assert (bad["type"], bad["data"]) == (
        "operation_failed",
        {"status": "failed", "error": "ValueError"},
    )
    assert (await written(backend, "told"))[1]["data"]["error"] == "shown"
    assert (await written(backend, "given-up"))[1]["type"] == "operation_cancelled"
    (_, own) = await written(backend, "own")
    assert own["data"] == {"status": "failed", "error": "by hand", "row": 7}


async def test_a_repeated_call_with_a_key_appends_once(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url, progress_interval_s=60)
    await publisher.progress("42", 0.1)
    await publisher.progress("42", 0.2)
    first = await publisher.publish("42", "log", {"n": 1}, idempotency_key="retry-1")
    again = await publisher.publish("42", "log", {"n": 1}, idempotency_key="retry-1")
    assert again == first
    with pytest.raises(InvalidInput, match="idempotency_key"):
        await publisher.publish("42", "log", {"n": 2}, idempotency_key="retry-1")
    assert await publisher.publish("43", "log", {"n": 2}, idempotency_key="retry-1")
    assert [e["type"] for e in await written(backend)] == ["progress", "progress", "log"]


async def test_redis_away_and_back(publishers: Make, redis_server: Server) -> None:
    publisher = publishers(redis_server.url, progress_interval_s=0.05)
    await publisher.progress("42", 0.1)
    await redis_server.kill()

    for _ in range(2):  # the first time a connection breaks, the second time there is none
        with pytest.raises(RedisUnavailable):
            await publisher.publish("42", "log", {"n": 1})
    with pytest.raises(RedisUnavailable) as refused:
        await publisher.publish("42", "log", {"n": 1})
    assert not isinstance(refused.value, WriteUncertain)
    await publisher.progress("42", 0.5)  # never raises for Redis
    await publisher.progress("42", 0.6)
    with pytest.raises(RedisUnavailable):
        await publisher.flush()

    await redis_server.restart()
    async with redis_server.client() as client:
        backend = Backend(client)
        await until(lambda: backend.exists("42"), "held, and tried again in the background")
        assert progress_of(await written(backend)) == [0.6]
        await publisher.publish("42", "log", {"n": 2})
        assert [e["type"] for e in await written(backend)] == ["progress", "log"]


async def until_heard(publish: Callable[[], Awaitable[str]]) -> None:
    """A reply may come too late on a busy machine, too."""
    for _ in range(100):
        try:
            await publish()
            return
        except RedisUnavailable:
            pass
    raise AssertionError("never heard")


async def test_a_lost_reply_is_told_and_never_written_twice(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    settings = RedisSettings(url=RedisUrl(redis_server.url), reply_timeout_s=0.2)
    publisher = publishers(settings)
    await until_heard(lambda: publisher.publish("42", "log", {"n": 0}))
    redis_server.pause()  # what it is sent, it will carry out when it goes on
    with pytest.raises(WriteUncertain):
        await publisher.publish("42", "log", {"n": 1})
    with pytest.raises(RedisUnavailable):
        await publisher.publish("42", "log", {"n": 2}, idempotency_key="k")
    redis_server.resume()
    await until_heard(lambda: publisher.publish("42", "log", {"n": 2}, idempotency_key="k"))
    numbers = [e["data"]["n"] for e in await written(backend)]
    assert numbers.count(1) <= 1
    assert numbers.count(2) == 1


async def test_sentinel(publishers: Make, sentinel: Sentinels) -> None:
    publisher = publishers(sentinel.url)
    first = await publisher.publish("42", "log", {"n": 1})
    assert await publisher.publish("42", "log", {"n": 2}) > first


async def test_cluster(publishers: Make, cluster: Cluster) -> None:
    async with Replica(cluster.url) as replica:
        publisher = await asyncio.to_thread(publishers, cluster.url)
        for n in range(20):
            async with replica.watch(f"op-{n}") as viewer:
                await viewer.state()
                sent = await publisher.publish(f"op-{n}", "log", {"n": n}, idempotency_key="k")
                assert await viewer.ids(1) == [sent]
                same = await publisher.publish(f"op-{n}", "log", {"n": n}, idempotency_key="k")
                assert same == sent


@pytest.mark.real("tls-server")
async def test_tls(publishers: Make, certificates: Certificates) -> None:
    from tests.servers import binaries
    from tests.servers.standalone import Options

    async with Server(
        binaries.require("tls-server"), Options(tls=certificates, password="p@ss")
    ) as server:
        settings = RedisSettings(url=RedisUrl(server.url), tls_ca_file=certificates.ca_file)
        assert await publishers(settings).publish("42", "log", {})


async def test_the_rights_that_the_documentation_asks_for(
    publishers: Make, any_server: Server
) -> None:
    async with any_server.client() as client:
        await client.execute_command(
            "ACL", "SETUSER", "worker", "on", ">pass", *documented_rights("publisher")
        )
    settings = RedisSettings(
        url=RedisUrl(any_server.url), username="worker", password=SecretStr("pass")
    )
    async with Replica(any_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        publisher = publishers(settings)
        first = await publisher.publish("42", "log", {"n": 1}, idempotency_key="k")
        assert await publisher.publish("42", "log", {"n": 1}, idempotency_key="k") == first
        assert await viewer.ids(1) == [first]
        assert await viewer.is_quiet()


async def test_addresses_that_cannot_be(publishers: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://h", "redis://", "redis://a,b"):
        with pytest.raises(SettingsError):
            publishers(url)
    monkeypatch.setenv("TIDEGATE_REDIS__URL", "ftp://h")
    with pytest.raises(SettingsError):
        publishers(None)


def test_threads_keep_the_order_of_each_operation(redis_server: Server) -> None:
    with Publisher(redis_server.url, progress_interval_s=0.01) as publisher:

        def work(operation: str) -> None:
            for n in range(60):
                publisher.progress(operation, n / 100)
                publisher.publish(operation, "log", {"n": n})
            publisher.completed(operation)

        threads = [threading.Thread(target=work, args=(f"op-{n}",)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    async def check() -> None:
        async with redis_server.client() as client:
            for n in range(8):
                entries = await written(Backend(client), f"op-{n}")
                logs = [e["data"]["n"] for e in entries if e["type"] == "log"]
                assert logs == list(range(60))
                marks = progress_of(entries)
                assert marks == sorted(set(marks))
                assert entries[-1]["type"] == "operation_completed"
                for before, after in itertools.pairwise(entries):
                    if after["type"] == "log" and before["type"] == "progress":
                        assert round(before["data"]["progress"] * 100) == after["data"]["n"]

    asyncio.run(check())


def test_forks_and_the_end_of_the_process(redis_server: Server, tmp_path: Path) -> None:
    """As a pre-forking server uses it: made before the fork, never closed."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """
            import os, sys
            from tidegate import Publisher

            publisher = Publisher(sys.argv[1], progress_interval_s=0.2)
            publisher.progress("parent", 0.1)
            publisher.progress("parent", 0.2)   # held: a thread waits for it
            child = os.fork()
            name = "child" if child == 0 else "parent"
            if child:
                os.waitpid(child, 0)
            publisher.progress(name, 0.3)
            publisher.progress(name, 0.4)
            if child == 0:
                publisher.flush()
                os._exit(0)
            """
        )
    )
    subprocess.run([sys.executable, program, redis_server.url], check=True, timeout=60)

    async def check() -> None:
        async with redis_server.client() as client:
            backend = Backend(client)
            assert progress_of(await written(backend, "child")) == [0.3, 0.4]
            parent = progress_of(await written(backend, "parent"))
            assert parent == sorted(set(parent))
            assert (parent[0], parent[-1]) == (0.1, 0.4)

    asyncio.run(check())


async def test_a_started_operation_is_listed_in_a_feed(
    redis_server: Server, backend: Backend, publishers: Make
) -> None:
    publisher = publishers(redis_server.url, cap=0, ttl_s=60)
    started = await publisher.start("42", feed="user:7", title="Export", rows=3)
    (first,) = await written(backend)
    assert first["id"] == started
    assert first["type"] == "operation_started"
    assert first["data"] == {"status": "running", "title": "Export", "rows": 3}
    async with publisher.operation("43", feed="user:7"):
        pass
    entries = await written(backend, "user:7")
    assert [(one["type"], one["data"]) for one in entries] == [
        ("listed", {"operation": "42", "title": "Export"}),
        ("listed", {"operation": "43"}),
    ]
    # A feed outlives its operations, and is bounded where they are not.
    assert await backend.client.ttl(PREFIX + "42") <= 60
    assert await backend.client.ttl(PREFIX + "user:7") > 60
    for n in range(500):
        await publisher.start(f"op-{n}", feed="user:7")
    assert 200 <= await backend.client.xlen(PREFIX + "user:7") < 350
    with pytest.raises(InvalidInput):
        await publisher.start("44", feed="user 7")
    assert not await backend.exists("44"), "nothing was written"
