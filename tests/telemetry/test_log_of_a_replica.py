"""The whole log of a replica in a process of its own, from its start to its end, at `debug`: while
viewers with tokens come and go, and others send what hurts.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

import httpx
import jwt
from websockets.asyncio.client import connect

from tests.cli.command import end, finish, start
from tests.harness.plain_http import plain_client
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.ports import free_port
from tests.servers.standalone import Server
from tidegate import AsyncPublisher

SECRET = "a secret of 32 bytes, or more....."
PAYLOAD = "pay-load-of-an-entry"
ADMIN_TOKEN = "admin-token-of-a-test"
HOSTILE = (
    b"\x1b[2J\x1b]0;owned\x07 / HTTP/1.1\r\n\r\n",
    b"GET /ws/operations/\x9b31m?token=s3cr3t HTTP/1.1\r\nhost: x\r\n\r\n",
    b'GET /ws/operations/42 HTTP/1.1\r\nhost: x\r\nx: "\n{"event":"forged"}\r\n\r\n',
    b"GET /\xff\xfe HTTP/9.9\r\n\r\n",
)


def token(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time() + 300)}, SECRET, algorithm="HS256")


async def send(port: int, raw: bytes) -> None:
    """Send it and read what comes, until the server has enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(raw)
        writer.write_eof()
        await reader.read()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def test_every_line_is_json_and_none_has_a_secret(redis_server: Server) -> None:
    port, admin_port = free_port(), free_port()
    replica = await start(
        *("serve", "--port", str(port), "--admin-port", str(admin_port), "--auth", "jwt"),
        *("--redis", redis_server.url, "--pod", "logger-1", "--log-level", "debug"),
        TIDEGATE_AUTH__SECRET=SECRET,
        TIDEGATE_AUTH__TOKEN_IN_QUERY="true",
        TIDEGATE_SOURCE__KIND="none",
        TIDEGATE_SERVER__ADMIN_TOKEN=ADMIN_TOKEN,
        TIDEGATE_DRAIN__DELAY_S="0",
        TIDEGATE_DRAIN__WINDOW_S="0",
    )
    try:
        await _ready(admin_port)
        url = f"ws://127.0.0.1:{port}/ws/operations/42"
        users = [token(f"user-name-{number}") for number in range(3)]
        bearer = {"Authorization": f"Bearer {users[0]}"}
        # Three ways to bring a token, a payload, and an end of each kind.
        async with (
            AsyncPublisher(redis_server.url) as publisher,
            Viewer(url, additional_headers=bearer) as by_header,
            Viewer(f"{url}?token={users[1]}") as by_query,
            connect(url, subprotocols=_protocols(users[2])) as by_subprotocol,
        ):
            await by_header.state()
            await by_query.state()
            await by_subprotocol.recv()
            await publisher.publish("42", "note", {"text": PAYLOAD})
            await by_header.entries(1)
            await by_query.entries(1)
        async with Viewer(f"{url}?token=bad-s3cr3t") as refused:
            await refused.rest()
        for raw in HOSTILE:
            await send(port, raw)
        admin_url = f"http://127.0.0.1:{admin_port}"
        async with plain_client(admin_url) as admin:
            wrong = await admin.get("/debug/tasks", headers={"Authorization": "Bearer s3cr3t"})
            assert wrong.status_code == 401
        async with Viewer(url, additional_headers=bearer) as last:
            await last.state()
            replica.send_signal(signal.SIGTERM)
            done = await finish(replica)
    finally:
        await end(replica)

    assert done.code == 0
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.err.splitlines()]
    assert all(
        {"event", "level", "logger", "timestamp"} <= line.keys() and isinstance(line["event"], str)
        for line in lines
    )
    ends = [line for line in lines if line["event"] == "connection ended"]
    reasons = sorted(line["reason"] for line in ends)
    assert reasons == ["bad_token", "draining", "viewer_left", "viewer_left", "viewer_left"]
    assert lines[-1]["event"] == "stopped"
    assert "forged" not in [line["event"] for line in lines]
    for secret in (*users, *(u.split(".")[1] for u in users), "s3cr3t", SECRET, ADMIN_TOKEN):
        assert secret not in done.err
    assert PAYLOAD not in done.err
    assert "user-name-" not in done.err
    assert not any(ord(letter) < 32 and letter != "\n" for letter in done.err)


def _protocols(text: str) -> Any:
    return ["tidegate.v1", f"access_token.{text}"]


async def _ready(admin_port: int) -> None:
    async with plain_client(f"http://127.0.0.1:{admin_port}") as client:

        async def ready() -> bool:
            try:
                return (await client.get("/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await until(ready)
