"""The packed browser client in Node and in Deno.

Over HTTP where there is no WebSocket (Node 20), with it else. The process ends by itself: a client
that is done keeps nothing open.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.clients import deno
from tests.harness import programs
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.standalone import Server
from tidegate import AsyncPublisher

pytestmark = [pytest.mark.real("node"), pytest.mark.full, pytest.mark.xdist_group("js")]

SECRET = "k" * 32
SCRIPTS = Path(__file__).with_name("script")
TIMEOUT_S = 60


#: Nothing but the package and the network, and nothing from elsewhere.
DENO_ARGUMENTS = ("run", "--no-prompt", "--no-remote", "--no-config", "--allow-net")


@pytest.fixture(params=["node", "deno"])
def runtime(request: pytest.FixtureRequest, package: Path) -> list[str | Path]:
    """What runs a script, and what that may do."""
    if request.param == "node":
        program = binaries.node()
        assert program is not None
        return [program]
    try:
        return [deno.program(), *DENO_ARGUMENTS, f"--allow-read={package},{SCRIPTS}"]
    except LookupError as reason:
        pytest.skip(str(reason))


async def run(
    runtime: Sequence[str | Path],
    package: Path,
    replica: Replica,
    operation: str,
    scratch: Path,
    token: str = "",
    script: str = "watch.mjs",
) -> list[Any]:
    """What the script says, line by line."""
    process = await asyncio.create_subprocess_exec(
        *runtime,
        SCRIPTS / script,
        package,
        f"http://127.0.0.1:{replica.settings.server.port}",
        operation,
        token,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "DENO_DIR": str(scratch), "DENO_NO_UPDATE_CHECK": "1"},
    )
    done = await programs.ended(process, TIMEOUT_S)
    assert done.code == 0
    return [json.loads(line) for line in done.out.split("\n") if line]


async def test_to_the_end(
    redis_server: Server,
    backend: Backend,
    package: Path,
    runtime: list[str | Path],
    tmp_path: Path,
) -> None:
    ids = await backend.publish_many("a", 150)
    async with Replica(redis_server.url) as replica:
        watching = asyncio.create_task(run(runtime, package, replica, "a", tmp_path))
        ids.append(await backend.publish("a", "operation_completed", result={"rows": 7}))
        *frames, end = await watching
    assert [id_ for _, id_ in frames if id_] == ids
    assert frames[0] == ["current_state", None]
    assert end == {"status": "completed", "connection": "ended", "result": {"rows": 7}}


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("", {"name": "SignInRequired", "code": "token_missing", "retry": False, "close": 4401}),
        ("mine", {"name": "WatchForbidden", "code": "forbidden", "retry": False, "close": 4403}),
    ],
)
async def test_a_refusal(
    redis_server: Server,
    package: Path,
    runtime: list[str | Path],
    tmp_path: Path,
    token: str,
    error: dict[str, Any],
) -> None:
    if token:
        token = jwt.encode({"sub": "alice", "exp": 4_000_000_000, "operations": ["b"]}, SECRET)
    async with Replica(
        redis_server.url,
        server={"auth": "jwt"},
        auth={"secret": SECRET},
        source={"kind": "claims"},
    ) as replica:
        (end,) = await run(runtime, package, replica, "a", tmp_path, token)
    assert end == error


async def test_a_feed_and_an_operation_that_is_cancelled(
    redis_server: Server,
    backend: Backend,
    runtime: list[str | Path],
    package: Path,
    tmp_path: Path,
) -> None:
    async with AsyncPublisher(redis_server.url) as publisher, Replica(redis_server.url) as replica:
        await publisher.start("b", feed="user:7")
        await publisher.start("a", feed="user:7", title="Export")
        watching = asyncio.create_task(
            run(runtime, package, replica, "user:7", tmp_path, "a", script="feed.mjs")
        )

        async def is_asked() -> bool:
            return await publisher.cancel_requested("a")

        await until(is_asked)
        await publisher.cancelled("a")
        *lists, refused = await watching
    assert [["a", "Export", "running"], ["b", "b", "running"]] in lists
    assert lists[-1] == [["a", "Export", "cancelled"], ["b", "b", "running"]]
    assert refused == {"name": "TidegateError", "code": "already_ended", "close": 4409}
    assert await backend.client.xlen("operation-progress:a") == 3
