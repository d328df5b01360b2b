"""The published client of Durable Streams reads an operation, and the published conformance tests
of reading hold.
"""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.clients.durable.packages import installed
from tests.clients.durable.writer import Writer
from tests.harness import programs
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("node"),
    pytest.mark.full,
    pytest.mark.timeout(600),
]

SECRET = "k" * 32
TIMEOUT_S = 60.0
CONFORMANCE_TIMEOUT_S = 400.0
#: Beginnings of names of the tests that read; all others are about what a writer may do, or about
#: forks. With each part how many they are, in the version that is installed.
READING = {
    "examples": (
        (
            *("Read Operations", "Long-Poll", "Offset Validation", "HEAD Metadata should"),
            *("SSE Mode", "Browser Security Headers", "Caching and ETag", "Chunking.*chunk-size"),
            "Read-Your-Writes",
            "HTTP Protocol should (return correct headers on GET|return empty body)",
            "HTTP Protocol should read from offset",
            "Content-Type Validation should return stream content-type",
            "Protocol Edge Cases should (preserve data|generate unique|handle binary)",
            "Protocol Edge Cases should (reject (empty|multiple) offset|ignore unknown)",
            "JSON Mode should (wrap|concatenate|preserve|work|handle|store)",
            "Stream Closure (HEAD|Read|Long-poll|SSE)",
            "Stream Closure Edge Cases offset-now",
        ),
        116,
    ),
    "properties": (
        (
            "Property-Based Tests .* (Byte-Exactness|Immutability|Offset Validation|State Hash)",
            "Property-Based Tests .* (offsets are|read-your-writes)",
        ),
        10,
    ),
}


def base_url(replica: Replica) -> str:
    return f"http://127.0.0.1:{replica.settings.server.port}"


@pytest.fixture(scope="module")
def packages() -> Path:
    return installed()


async def read(
    packages: Path, replica: Replica, live: str, offset: str = "-1", token: str = ""
) -> list[Any]:
    """What the client has read, line by line, and where it stands then."""
    program = binaries.node()
    assert program is not None
    url = f"{base_url(replica)}/streams/42"
    command = (program, "read.mjs", url, live, offset, token)
    done = await programs.run(*command, cwd=packages, timeout_s=TIMEOUT_S)
    assert done.code == 0, done.out
    return [json.loads(line) for line in done.out.split("\n") if line]


@pytest.mark.parametrize("live", ["sse", "long-poll"])
async def test_the_client_reads_an_operation_to_its_end(
    packages: Path, redis_server: Server, backend: Backend, live: str
) -> None:
    texts = [f"{n} é\u2028😀 " for n in range(700)]
    for text in texts[:600]:
        await backend.publish("42", "append", text=text)
    async with Replica(redis_server.url) as replica:
        reading = asyncio.create_task(read(packages, replica, live))
        await until(lambda: replica.viewers == 1 or reading.done(), within_s=TIMEOUT_S)
        for text in texts[600:]:
            await backend.publish("42", "append", text=text)
        await backend.finish("42")
        *messages, end = await reading
    assert [message["data"]["text"] for message in messages[:-1]] == texts
    assert messages[-1]["type"] == "operation_completed"
    assert end["closed"] is True


async def test_the_client_reads_a_part_and_goes_on(
    packages: Path, redis_server: Server, backend: Backend
) -> None:
    ids = await backend.publish_many("42", 5)
    async with Replica(redis_server.url) as replica:
        *messages, here = await read(packages, replica, "false")
        assert [message["id"] for message in messages] == ids
        assert here["upToDate"] is True
        ids += await backend.publish_many("42", 2, start=5)
        *messages, _ = await read(packages, replica, "false", here["offset"])
        assert [message["id"] for message in messages] == ids[5:]


async def test_the_client_is_refused_as_everybody(
    packages: Path, redis_server: Server, backend: Backend
) -> None:
    await backend.publish("42")
    async with Replica(
        redis_server.url,
        server={"auth": "jwt"},
        auth={"secret": SECRET},
        source={"kind": "claims"},
    ) as replica:
        (refused,) = await read(packages, replica, "false")
        assert refused["status"] == 401
        token = jwt.encode({"sub": "ann", "exp": 4_000_000_000, "operations": ["42"]}, SECRET)
        message, _ = await read(packages, replica, "false", token=token)
        assert message["operation"] == "42"


@pytest.mark.parametrize("part", READING)
async def test_the_published_tests_of_reading_hold(
    packages: Path,
    redis_server: Server,
    backend: Backend,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    names, count = READING[part]
    pattern = "|".join(f"^{name}" for name in names)
    program = binaries.node()
    assert program is not None
    monkeypatch.setattr("tidegate.web.http.durable_streams.LONG_POLL_S", 2.0)
    async with (
        Replica(redis_server.url, auth={"origins": ["https://example.com"]}) as replica,
        Writer(base_url(replica), backend.client).running() as url,
    ):
        done = await programs.run(
            program,
            *("node_modules/vitest/vitest.mjs", "run", "conformance.test.mjs"),
            *("--reporter", "verbose", "--no-color", "--testTimeout", "60000", "-t", pattern),
            cwd=packages,
            env={"CONFORMANCE_TEST_URL": url, "CI": "1"},
            timeout_s=CONFORMANCE_TIMEOUT_S,
        )
    assert done.code == 0, done.out
    passed = re.search(r"Tests +([0-9]+) passed", done.out)
    assert passed is not None, done.out
    assert int(passed[1]) == count, done.out
