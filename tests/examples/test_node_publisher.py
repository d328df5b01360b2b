"""The program in Node with the real ioredis, watched through a real gateway."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.examples.example import CACHE, ROOT, run
from tests.harness.replica import Replica
from tests.integrations.test_recipes import IOREDIS
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("valkey9", "node"),
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("js"),  # one process installs into the cache
]

SOURCE = ROOT / "examples" / "node_publisher"


@pytest.fixture(scope="module")
def folder() -> Path:
    """A copy with the packages, which are kept in the cache."""
    folder = CACHE / "node_publisher"
    shutil.copytree(SOURCE, folder, dirs_exist_ok=True)
    return folder


async def node(folder: Path, redis: Server, *arguments: str) -> tuple[int, str]:
    package = json.loads((folder / "package.json").read_text())
    assert package["dependencies"] == {"ioredis": IOREDIS}
    if not (folder / "node_modules" / "ioredis").exists():
        code, said = await run("npm", "install", "--silent", "--no-fund", cwd=folder)
        assert code == 0, said
    return await run("node", *arguments, cwd=folder, REDIS_URL=redis.url)


async def test_a_viewer_sees_progress_and_the_end(redis_server: Server, folder: Path) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("7") as viewer:
        assert await node(folder, redis_server, "export.mjs", "7", "60") == (0, "")
        (_, first, *between, last), close = await viewer.rest()
    assert close.code == 1000
    assert first["type"] == "operation_started"
    assert (last["type"], last["data"]["result"]) == ("operation_completed", {"rows": 60})
    assert between[-1]["data"] == {"current": 60, "total": 60, "message": "row 60"}
    assert len(between) < 60  # not one for each row


async def test_a_viewer_stops_it(redis_server: Server, folder: Path) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("7") as viewer:
        running = asyncio.create_task(node(folder, redis_server, "export.mjs", "7", "1000000"))
        await viewer.until(type="progress")
        await viewer.say('{"type":"cancel"}')
        await viewer.until(type="cancelling")
        assert await running == (3, "")
        *_, last = (await viewer.rest())[0]
    assert last["data"] == {"status": "cancelled"}
    async with redis_server.client() as client:
        assert await client.exists("{operation-progress:7}:cancel") == 0
        assert 0 < await client.ttl("operation-progress:7") <= 86_400


FAILS = """
import Redis from "ioredis";
import { runOperation } from "./operation.mjs";

const redis = new Redis(process.env.REDIS_URL);
const fails = async () => { throw new RangeError("password=secret"); };
await runOperation(redis, "7", "Fails", fails).catch(({ message }) => console.log(message));
await redis.quit();
"""


async def test_viewers_see_that_it_has_failed_and_not_why(
    redis_server: Server, folder: Path
) -> None:
    async with Replica(redis_server.url) as replica, replica.watch("7") as viewer:
        said = await node(folder, redis_server, "--input-type=module", "-e", FAILS)
        assert said == (0, "password=secret\n")
        *_, last = (await viewer.rest())[0]
    assert last["data"] == {"status": "failed", "error": "RangeError"}


async def test_it_says_how_it_is_used(redis_server: Server, folder: Path) -> None:
    for arguments in ((), ("7", "many"), ("7", "-1")):
        code, said = await node(folder, redis_server, "export.mjs", *arguments)
        assert (code, said.split()[0]) == (2, "usage:")
