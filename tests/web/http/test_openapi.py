"""The OpenAPI description holds: schemathesis sends what it allows, and what it does not, to a real
replica, and looks at every answer.

As a process of its own, as somebody else would run it. The event stream has a run for itself, on a
replica where nothing can be published: there every operation has ended, so every stream ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from tests.harness import programs
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tests.web.access.test_admission import AUTH, guarded, token

# Some 20 s when nobody else wants the CPU.
pytestmark = pytest.mark.timeout(400)

SERVICE = "s" * 32
STREAM = "/sse/operations/{operation_id}"
#: Cases for each operation of the description, in each phase.
FEW, MANY = 5, 100

CONFIG = f"""
[auth.openapi.viewer]
bearer = "{{token}}"
[auth.openapi.service]
bearer = "{SERVICE}"
[checks.positive_data_acceptance]
# With its defaults, and what is only known at run time. 410: nothing follows an offset of another
# log; 422: a key was used for another request.
expected-statuses = ["2xx", "3xx", "401", "403", "404", "409", "410", "422", "429", "5xx"]
"""


async def check(replica: Replica, folder: Path, examples: int, *options: str) -> None:
    """Run it; what it has found is the failure's text."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG.format(token=token("u", ttl_s=3600)))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
    command += ["--no-color", "run", "--checks", "all", "--continue-on-failure"]
    command += ["--max-examples", str(examples), "--request-timeout", "5", *options]
    # The same cases in each run of CI, new ones elsewhere; neither keeps a database of them.
    if os.environ.get("CI"):
        command.append("--generation-deterministic")
    else:
        command += ["--generation-database", "none"]
    command.append(f"http://127.0.0.1:{replica.settings.server.port}/openapi.json")
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    done = await programs.ended(process)
    assert done.code == 0, done.out


async def known(backend: Backend) -> dict[str, str]:
    """Operation 42 has ended and is the only one; settings of its source."""
    await backend.client.hset("operation:42", mapping={"users": "*", "status": "running"})
    await backend.publish_many("42", 20)
    await backend.finish("42")
    return {"kind": "redis", "redis_prefix": "operation:"}


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.full)])
async def test_requests_are_answered_as_described(
    redis_server: Server, backend: Backend, tmp_path: Path, examples: int
) -> None:
    source = await known(backend)
    async with guarded(
        redis_server, auth=AUTH, source=source, publish={"token": SERVICE}
    ) as replica:
        await check(replica, tmp_path, examples, "--exclude-path", STREAM)


@pytest.mark.full
async def test_event_streams_are_answered_as_described(
    redis_server: Server, backend: Backend, tmp_path: Path
) -> None:
    source = await known(backend)
    async with guarded(redis_server, auth=AUTH, source=source) as replica:
        await check(replica, tmp_path, MANY, "--include-path", STREAM)
