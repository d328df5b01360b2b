"""Our link against redis-py's connection: CPU per push, in one run, by `python -m
bench.link_compare`.

Both read the same sharded messages from one RESP3 connection to the same server, in turns. redis-py
has the public way for it, `Connection.read_response(push_request=True)`; ours is an
`asyncio.Protocol` over hiredis' reader.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from typing import Any

import uvloop
from redis.asyncio import Connection, Redis

from tests.servers import binaries
from tests.servers.standalone import Options, Server
from tidegate.gateway.fanout import Fanout
from tidegate.model.settings import RedisSettings
from tidegate.redis.address import parse_address
from tidegate.redis.link import Link, connect, pack

MESSAGES = 50_000
ROUNDS = 5
CHANNEL = "operation-progress:bench"
PAYLOAD = b"x" * 300


async def publish(port: int) -> None:
    """All messages, in pipelines of 100."""
    client = Redis(port=port)
    for _ in range(MESSAGES // 100):
        pipeline = client.pipeline(transaction=False)
        for _ in range(100):
            pipeline.execute_command("SPUBLISH", CHANNEL, PAYLOAD)
        await pipeline.execute()
    await client.aclose()


async def ours(url: str) -> None:
    """Count the pushes that a `Link` hands over."""
    address = parse_address(RedisSettings.model_validate({"url": url}))
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    left = MESSAGES

    def on_push(push: list[Any]) -> None:
        nonlocal left
        if push[0] == b"smessage":
            left -= 1
            if not left:
                done.set()

    def on_lost() -> None:
        raise RuntimeError("the link was lost")

    link: Link
    link, _ = await connect(address.nodes[0], address, on_push, on_lost, Fanout(loop))
    subscribed = asyncio.Event()
    link.send(
        pack("SSUBSCRIBE", CHANNEL), lambda _: subscribed.set(), b"ssubscribe " + CHANNEL.encode()
    )
    await subscribed.wait()
    print("ready", flush=True)
    before = time.process_time()
    await done.wait()
    print(time.process_time() - before)


async def theirs(port: int) -> None:
    """Count the pushes that redis-py's connection hands over."""
    left = MESSAGES
    connection = Connection(port=port, protocol=3, socket_timeout=None)
    await connection.connect()
    await connection.send_command("SSUBSCRIBE", CHANNEL)
    await connection.read_response(push_request=True)
    print("ready", flush=True)
    before = time.process_time()
    while left:
        push = await connection.read_response(push_request=True)
        if push[0] == b"smessage":
            left -= 1
    print(time.process_time() - before)


async def measure(who: str, port: int) -> float:
    """CPU us per message of one reader in a process of its own."""
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.link_compare",
        who,
        str(port),
        stdout=asyncio.subprocess.PIPE,
    )
    assert reader.stdout is not None
    await reader.stdout.readline()
    await publish(port)
    cpu_s = float((await reader.stdout.readline()).decode())
    await reader.wait()
    return cpu_s / MESSAGES * 1e6


async def main() -> None:
    """Rounds in turns, then medians and the ratio."""
    if len(sys.argv) == 3:
        who, port = sys.argv[1], int(sys.argv[2])
        await (ours(f"redis://127.0.0.1:{port}/0") if who == "ours" else theirs(port))
        return
    figures: dict[str, list[float]] = {"ours": [], "redis-py": []}
    async with Server(binaries.embedded(), Options()) as server:
        for _ in range(ROUNDS):
            for who, values in figures.items():
                values.append(await measure(who, server.port))
    for who, values in figures.items():
        print(
            f"{who:9} median {statistics.median(values):5.2f} us of CPU per push,"
            f" {min(values):.2f}..{max(values):.2f} over {ROUNDS} rounds of {MESSAGES:,}"
        )
    pairs = [b / a for a, b in zip(figures["ours"], figures["redis-py"], strict=True)]
    print(f"redis-py / ours: {statistics.median(pairs):.2f}")


if __name__ == "__main__":
    uvloop.run(main())
