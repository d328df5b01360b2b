"""The shell script with a real client, watched through a real gateway."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from tests.examples.example import ROOT, run
from tests.harness.replica import Replica
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("valkey9"),
    pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here"),
]

SCRIPT = ROOT / "examples" / "plain_redis" / "compress.sh"
NAMES = ("plain.txt", 'it\'s "quoted" \\ $HOME *.txt', "-dash.txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        (tmp_path / name).write_text(name)
    return tmp_path


def compressed(folder: Path) -> list[Path]:
    return list(folder.glob("*.gz"))


async def compress(folder: Path, redis: Server, *names: str) -> int:
    """The exit code."""
    code, _ = await run("sh", SCRIPT, "logs", *names, cwd=folder, REDIS_URL=redis.url)
    return code


async def test_a_viewer_sees_each_file_and_the_end(redis_server: Server, folder: Path) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("logs") as viewer:
        assert await compress(folder, redis_server, *NAMES) == 0
        (_, first, *files, last), close = await viewer.rest()
    assert close.code == 1000
    assert (first["type"], last["type"]) == ("operation_started", "operation_completed")
    shown = [(one["data"]["current"], one["data"]["file"]) for one in files]
    assert shown == [("1", NAMES[0]), ("2", NAMES[1]), ("3", NAMES[2])]
    for name in NAMES:
        assert gzip.decompress((folder / f"{name}.gz").read_bytes()) == name.encode()
    async with redis_server.client() as client:
        assert 0 < await client.ttl("operation-progress:logs") <= 86_400


async def test_a_viewer_sees_that_it_has_failed(redis_server: Server, folder: Path) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("logs") as viewer:
        assert await compress(folder, redis_server, NAMES[0], "missing.txt", NAMES[1]) != 0
        frames, _ = await viewer.rest()
    assert [one["type"] for one in frames[1:]] == [
        "operation_started",
        "progress",
        "operation_failed",
    ]


async def test_a_viewer_stops_it(redis_server: Server, folder: Path) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("logs") as viewer:
        async with redis_server.client() as client:
            await client.xadd("operation-progress:logs", {"status": "waiting"})
        await viewer.until(type="update")
        await viewer.say('{"type":"cancel"}')
        await viewer.until(type="cancelling")
        assert await compress(folder, redis_server, *NAMES) == 3
        *_, last = (await viewer.rest())[0]
    assert last["data"]["status"] == "cancelled"
    assert compressed(folder) == []
