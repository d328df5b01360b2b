"""`helm test`: publishes an operation and watches it through the Service.

Runs in the gateway's image, with the gateway's own settings. Where only your backend can say who
may watch (FULL is not set) it looks whether the gateway is ready and refuses a stranger politely.
Ends with 0, or with a line that says what is wrong.
"""

import asyncio
import os
import sys
import time
import uuid

import httpx

from tidegate import AsyncPublisher, TidegateError, Viewer
from tidegate.cli.settings_source import load_settings

SERVICE, ADMIN = os.environ["SERVICE"], os.environ["ADMIN"]
TIMEOUT_S = float(os.environ["TIMEOUT_S"])
OPERATION = f"helm-test-{uuid.uuid4().hex[:12]}"
UPDATES = 5


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def token() -> str | None:
    secret = os.environ.get("TIDEGATE_AUTH__SECRET")
    if secret is None:
        return None
    import jwt

    claims = {"sub": "helm-test", "operations": [OPERATION], "exp": int(time.time()) + 300}
    return jwt.encode(claims, secret, algorithm="HS256")


async def until_ready() -> None:
    """Endless: the deadline of the whole check ends it."""
    said = ""
    async with httpx.AsyncClient(timeout=3) as client:
        while True:
            try:
                answer = await client.get(f"http://{ADMIN}/readyz")
                found = f"{answer.status_code} {answer.text}"
            except httpx.HTTPError as error:
                found = f"{type(error).__name__}: {error}"
            if found != said:
                say(f"/readyz: {found}")
                said = found
            if found.startswith("200 "):
                return
            await asyncio.sleep(0.5)


async def publish() -> None:
    redis = load_settings().settings.redis
    async with AsyncPublisher(redis, progress_interval_s=0, ttl_s=600) as publisher:
        for number in range(1, UPDATES + 1):
            await publisher.publish(OPERATION, "log", {"number": number})
        await publisher.publish(OPERATION, "operation_completed", {"status": "completed"})


async def watch() -> list[int]:
    async with Viewer(OPERATION, f"ws://{SERVICE}", token=token(), history="all") as viewer:
        return [frame.data["number"] async for frame in viewer if frame.type == "log"]


async def stranger() -> None:
    async with httpx.AsyncClient(timeout=5) as client:
        answer = await client.get(f"http://{SERVICE}/operations/{OPERATION}/events")
    if answer.status_code not in (401, 403):
        sys.exit(f"somebody without a token got {answer.status_code}, not 401: {answer.text}")
    say(f"somebody without a token is refused: {answer.text}")


async def main() -> None:
    step = "waiting until a pod is ready"
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await until_ready()
            if not os.environ.get("FULL"):
                step = "asking without a token"
                await stranger()
                return
            step = f"publishing {OPERATION}, through Redis, and watching it at ws://{SERVICE}"
            say(step)
            watching = asyncio.create_task(watch())
            await publish()
            numbers = await watching
    except TimeoutError:
        sys.exit(f"nothing came of {step} in {TIMEOUT_S:g} s")
    except (TidegateError, httpx.HTTPError) as error:
        sys.exit(f"{step}: {error}")
    if numbers != list(range(1, UPDATES + 1)):
        sys.exit(f"{UPDATES} updates were published, and the viewer got {numbers}")
    say(f"{UPDATES} updates arrived, each once and in order")


asyncio.run(main())
