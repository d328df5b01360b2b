"""A viewer has its first frame in time or is told to come back, and connects are rationed: each
refusal with its own name, and counted.
"""

from __future__ import annotations

import asyncio

from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from tests.harness.plain_http import plain_client
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.servers.standalone import Server
from tests.web.access.test_admission import guarded, refused, token, watch
from tests.web.auth.http_server import HttpServer, Reply, Request

#: Far below what each step may take by itself.
SHORT = {"first_frame_timeout_s": 0.3}


async def never(request: Request) -> Reply:
    """A backend that does not answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def counted(replica: Replica, code: str) -> float:
    """Refusals with this code, as a scraper sees them."""
    text = (await replica.admin("/metrics")).text
    name = f'tidegate_refusals_total{{code="{code}"}} '
    return next(float(line[len(name) :]) for line in text.splitlines() if line.startswith(name))


async def test_who_is_not_admitted_in_time_is_told_to_come_back(redis_server: Server) -> None:
    async with HttpServer(never) as backend:
        source = {"kind": "http", "url": backend.url, "timeout_s": 30}
        async with guarded(redis_server, source=source, replica=SHORT) as replica:
            viewer = watch(replica, "42", token("u"))
            async with viewer:
                frames, close = await viewer.rest()
            assert frames[-1]["data"]["code"] == "first_frame_time"
            assert frames[-1]["data"]["retry"] is True
            assert close.code == 1013

            port = replica.settings.server.port
            async with plain_client(f"http://127.0.0.1:{port}") as client:
                headers = {"Authorization": f"Bearer {token('u')}"}
                answer = await client.get("/sse/operations/42", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "first_frame_time")
            assert int(answer.headers["retry-after"]) > 0
            assert await counted(replica, "first_frame_time") == 2


async def test_a_socket_of_many_is_admitted_in_time_or_not_at_all(redis_server: Server) -> None:
    """And what it may have taken is given back: the limit is one connection."""
    slots = {"limit": 1, "wait_s": 30}
    async with guarded(redis_server, slots=slots, replica=SHORT) as replica:
        url = f"ws://127.0.0.1:{replica.settings.server.port}/ws"
        headers = {"Authorization": f"Bearer {token('u')}"}
        redis_server.pause()
        try:
            code, close = await refused(Viewer(url, additional_headers=headers))
        finally:
            redis_server.resume()
        assert (code, close.code) == ("first_frame_time", 1013)

        async def is_let_in() -> bool:
            async with watch(replica, "42", token("u")) as viewer:
                frame = await viewer.next()
                if frame["type"] == "current_state":
                    return True
                # On a busy machine the first frame of this one may be late, too.
                assert frame["data"]["code"] in ("connection_limit", "first_frame_time")
                return False

        await until(is_let_in)


async def test_connects_beyond_the_rate_are_503_and_counted(redis_server: Server) -> None:
    few = {"connects_per_s": 1, "connects_burst": 3}
    async with Replica(redis_server.url, replica=few) as replica:
        url = replica.url("42")

        async def knock() -> Response | None:
            """The answer of a refusal."""
            try:
                async with connect(url):
                    return None
            except InvalidStatus as error:
                return error.response

        answers = await asyncio.gather(*(knock() for _ in range(40)))
        late = [answer for answer in answers if answer is not None]
        assert 3 <= len(answers) - len(late) < 40
        for answer in late:
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        reasons = {bytes(answer.body or b"").partition(b"connection: ")[2] for answer in late}
        assert {reason.partition(b";")[0] for reason in reasons} <= {b"connect_rate", b"waiting"}
        assert 0 < await counted(replica, "connect_rate") <= len(late)
