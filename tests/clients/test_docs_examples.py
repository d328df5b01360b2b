"""The examples of docs/browser.md and docs/coming-from.md, each run as it stands in a real Chromium
on a real gateway.

An example is bundled with the packed client and runs on the gateway's own origin; all that is
changed of it is the gateway's address. The element's script is run apart from its markup, because
the gateway has no such file. The operation is published by the test meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cli.browser import Browser
from tests.clients.package import ROOT
from tests.harness import programs
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.harness.waiting import until
from tests.servers import binaries
from tests.servers.standalone import Server

pytestmark = [
    pytest.mark.real("chromium", "node"),
    pytest.mark.full,
    pytest.mark.xdist_group("js"),
]

PLACEHOLDER = "https://gateway.example.com"
JS = ROOT / "clients" / "js"
_BLOCK = re.compile(r"^```(tsx?|html)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Example(NamedTuple):
    """A block of the page."""

    kind: str
    text: str


def examples() -> list[Example]:
    pages = ((ROOT / "docs" / name).read_text("utf-8") for name in ("browser.md", "coming-from.md"))
    return [Example(kind, text) for page in pages for kind, text in _BLOCK.findall(page)]


def example(part: str) -> Example:
    """The only one with this text in it."""
    (found,) = (one for one in examples() if part in one.text)
    return found


#: A text that only this example has. What each must do is the test of its name.
PARTS = {
    "loop": "for await",
    "state": "document.title",
    "frames": "onFrame:",
    "history": 'history: "all"',
    "token": "SignInRequired",
    "cancel": "await cancel(client",
    "feed": "watchFeed(new",
    "tabs": "sharedWebSocket(user)",
    "react": "TidegateProvider",
    "vue": "createApp",
    "element": "<tidegate-progress",
    "from_socket_io": 'createElement("progress")',
    "from_channels": '"import-7"',
    "from_sse": "new EventSource(",
}


async def bundle(package: Path, one: Example, url: str, folder: Path) -> str:
    """The example and all that it imports, as one module."""
    source = folder / f"example.{one.kind}"
    text = one.text.replace(PLACEHOLDER, url)
    if "export const App" in text:  # what the reader's own page does with it
        text += (
            '\nimport { createRoot } from "react-dom/client";\n'
            'createRoot(document.getElementById("app")!).render(<App />);\n'
        )
    source.write_text(text)
    aliases = [f"--alias:@tidegate/client={package}/dist/index.js"]
    for name in ("react", "vue", "tabs", "cancel", "feed"):
        aliases.insert(0, f"--alias:@tidegate/client/{name}={package}/dist/{name}.js")
    process = await asyncio.create_subprocess_exec(
        JS / "node_modules" / ".bin" / "esbuild",
        source,
        *aliases,
        *("--bundle", "--format=esm", "--jsx=automatic", "--log-level=error"),
        '--define:process.env.NODE_ENV="production"',
        env={"NODE_PATH": str(JS / "node_modules"), "PATH": "/usr/bin:/bin:/usr/local/bin"},
        stdout=asyncio.subprocess.PIPE,
    )
    done = await programs.ended(process)
    assert done.code == 0
    return done.out


@asynccontextmanager
async def running(
    name: str, redis_server: Server, package: Path, folder: Path
) -> AsyncIterator[Browser]:
    """A page of the gateway's origin on which the example runs; `said` is what it logged."""
    program = binaries.browser()
    assert program is not None
    one = example(PARTS[name])
    async with Replica(redis_server.url) as replica, Browser(program) as browser:
        url = f"http://127.0.0.1:{replica.settings.server.port}"
        if one.kind == "html":
            element = (package / "dist" / "element.min.js").read_text("utf-8")
            html = one.text.replace(PLACEHOLDER, url)
            script = f"document.body.innerHTML = {json.dumps(html)};\n{element}"
        else:
            script = await bundle(package, one, url, folder)
        await browser.open(f"{url}/openapi.json")
        await browser.evaluate(
            "document.body.innerHTML = '<div id=app></div>'; globalThis.said = [];"
            "console.log = (...values) => said.push(values);"
            "{ const real = fetch; globalThis.fetch = (url, ...rest) => url === '/session/token'"
            " ? (said.push(['asked']), Promise.resolve(new Response('a-token')))"
            " : real(url, ...rest); }"
        )
        encoded = base64.b64encode(script.encode()).decode()
        await browser.evaluate(
            f"void import('data:text/javascript;base64,{encoded}')"
            ".catch((error) => said.push(['failed', String(error)]))"
        )
        await until(lambda: replica.viewers >= 1, "the example watches")
        yield browser


def test_every_example_is_run() -> None:
    assert [sum(part in one.text for one in examples()) for part in PARTS.values()] == [1] * len(
        examples()
    )


async def said(browser: Browser, text: str) -> None:
    await browser.until(f"JSON.stringify(said).includes({json.dumps(text)})")


async def test_loop(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("loop", redis_server, package, tmp_path) as browser:
        await backend.publish("42", status="running", message="half way")
        await said(browser, "half way")


async def test_state(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("state", redis_server, package, tmp_path) as browser:
        await backend.publish("42", progress=0.5, message="half way")
        await browser.until("document.title === '50 %'")
        await backend.publish("42", "operation_completed", result="seven rows")
        await said(browser, "seven rows")


async def test_frames(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("frames", redis_server, package, tmp_path) as browser:
        await backend.publish("42", "log", line="half way")
        await said(browser, "half way")


async def test_history(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("history", redis_server, package, tmp_path) as browser:
        await backend.publish("42", "operation_completed")
        await said(browser, "completed")


async def test_token(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("token", redis_server, package, tmp_path) as browser:
        await said(browser, "asked")


async def test_cancel(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    await backend.publish("42", status="running")
    async with running("cancel", redis_server, package, tmp_path) as browser:

        async def is_asked() -> bool:
            return bool(await backend.client.exists("{operation-progress:42}:cancel"))

        await until(is_asked)
        await backend.finish("42", "cancelled")
        await said(browser, "stopped")


async def test_feed(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    listed = json.dumps({"type": "listed", "data": {"operation": "7", "title": "Export"}})
    await backend.add("user:42", {"message": listed})
    async with running("feed", redis_server, package, tmp_path) as browser:
        await said(browser, "Export")
        await backend.publish("7", status="running", progress=0.5)
        await said(browser, "running")


async def test_tabs(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("tabs", redis_server, package, tmp_path) as browser:
        await browser.until(
            "navigator.locks.query().then(({ held }) => { globalThis.held = held.length; })"
            " && globalThis.held >= 1"
        )


async def test_react(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("react", redis_server, package, tmp_path) as browser:
        await backend.publish("42", status="running", progress=0.5, message="half way")
        await browser.until("document.querySelector('progress')?.value === 0.5")
        label = "document.querySelector('progress').getAttribute('aria-label')"
        assert await browser.evaluate(label) == "running half way"
        assert await browser.evaluate("document.querySelectorAll('li').length") == 2


async def test_vue(redis_server: Server, backend: Backend, package: Path, tmp_path: Path) -> None:
    async with running("vue", redis_server, package, tmp_path) as browser:
        await backend.publish("42", status="running", progress=0.5)
        await browser.until("document.querySelector('#app progress')?.value === 0.5")


async def test_element(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("element", redis_server, package, tmp_path) as browser:
        await backend.publish("42", status="running", progress=0.5)
        track = "document.querySelector('tidegate-progress').shadowRoot.querySelector('.track')"
        await browser.until(f"{track}?.getAttribute('aria-valuenow') === '50'")


async def test_from_socket_io(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("from_socket_io", redis_server, package, tmp_path) as browser:
        await backend.publish("42", progress=0.5)
        await browser.until("document.querySelector('progress').value === 0.5")
        await backend.publish("42", "report", result="7 rows")
        await backend.publish("42", "operation_completed")
        await said(browser, "7 rows")


async def test_from_channels(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("from_channels", redis_server, package, tmp_path) as browser:
        await backend.publish("import-7", current=3, total=7)
        await said(browser, "3 of 7")
        await said(browser, "asked")


async def test_from_sse(
    redis_server: Server, backend: Backend, package: Path, tmp_path: Path
) -> None:
    async with running("from_sse", redis_server, package, tmp_path) as browser:
        await backend.publish("export-3", "step", name="second sheet")
        await said(browser, "second sheet")
        await backend.publish("export-3", "operation_completed")
        await said(browser, "operation_completed")
