"""A WebSocket of a page that came over HTTP/2, in Chromium.

HAProxy offers WebSockets over HTTP/2 (RFC 8441), and Chromium uses the page's connection for them.
nginx does not, nor do the others as they are configured: Chromium opens one of HTTP/1.1.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.browser import Browser
from tests.harness.backend import Backend
from tests.proxies.conftest import Gateway
from tests.proxies.programs import FrontProxy, HAProxy, NginxProxy
from tests.servers import binaries

pytestmark = [
    pytest.mark.full,
    pytest.mark.real("chromium"),
    pytest.mark.xdist_group("proxies"),
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(120),
]

ESTABLISHED = "01"
OPEN = """
  window.frames_ = [];
  window.socket_ = new WebSocket(
    `wss://${location.host}/progress/ws/operations/%s`, "tidegate.v1");
  socket_.onmessage = ({ data }) => frames_.push(JSON.parse(data));
  socket_.onclose = ({ code }) => frames_.push({ type: `closed ${code}` });
  true
"""


def connections_to(port: int) -> int:
    """Of TCP, that are open to this port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == ESTABLISHED for row in rows)


@pytest.mark.parametrize(
    "kind",
    [pytest.param(one, marks=pytest.mark.real(one.program)) for one in (NginxProxy, HAProxy)],
    ids=lambda kind: kind.program,
)
async def test_a_socket_from_a_page_of_http2(gateway: Gateway, kind: type[FrontProxy]) -> None:
    program = binaries.browser()
    assert program is not None
    operation = f"browser-{kind.program}"
    async with (
        gateway.redis.client() as client,
        kind(gateway.site) as proxy,
        # The authority of the test is not among the browser's.
        Browser(program, "--ignore-certificate-errors") as browser,
    ):
        await browser.open(f"{proxy.url}/openapi.json")
        protocol = "performance.getEntriesByType('navigation')[0].nextHopProtocol"
        assert await browser.evaluate(protocol) == "h2"
        await browser.evaluate(OPEN % operation)
        await browser.until("frames_.length === 1")
        assert await browser.evaluate("socket_.protocol") == "tidegate.v1"
        written = await Backend(client).publish(operation)
        await browser.until("frames_.length === 2")
        kinds = await browser.evaluate("frames_.map((frame) => frame.type)")
        assert kinds == ["current_state", "progress"]
        assert await browser.evaluate("frames_[1].id") == written
        assert (connections_to(proxy.port) == 1) is (kind is HAProxy)
