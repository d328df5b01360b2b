"""A headless Chromium and one page in it, driven over the DevTools protocol.

Only what the tests of the demo page need: open, evaluate, wait for an expression, take a picture.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect

from tests.harness.waiting import until
from tests.servers.process import Process

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1300,1000",
    "--remote-debugging-port=0",
)

#: Of one command, whatever else the page says; nothing that it does holds up a test for longer.
CALL_TIMEOUT_S = 60.0
#: A browser that does not close its socket is killed.
CLOSE_TIMEOUT_S = 2.0


class Browser:
    """Use as an async context manager: the browser starts with one blank page."""

    def __init__(self, program: Path, *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="tidegate-browser-", ignore_cleanup_errors=True
        )
        profile = Path(self._folder.name, "profile")
        self._port_file = profile / "DevToolsActivePort"
        self._process = Process(
            [program, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"],
            log_file=Path(self._folder.name, "log"),
            # Its own home: a profile elsewhere is none of ours.
            environment={"HOME": self._folder.name},
        )
        self._socket: ClientConnection | None = None
        self._ids = itertools.count(1)
        self.console: list[str] = []

    async def open(self, url: str) -> None:
        """Open a page and wait until it is there."""
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href === {url!r} && document.readyState === 'complete'")

    async def evaluate(self, expression: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise AssertionError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    async def until(self, expression: str) -> Any:
        """The value of ``expression`` once it is true. The page cannot call us, so it is asked."""
        value: Any = None

        async def true() -> bool:
            nonlocal value
            value = await self.evaluate(expression)
            return bool(value)

        await until(true, expression)
        return value

    async def picture(self, path: Path) -> None:
        answer = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(answer["data"]))

    async def press(self, key: str) -> None:
        """A key by its name, as it comes from a keyboard."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(key, 0)
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                windowsVirtualKeyCode=code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    async def size(self, width: int, height: int) -> None:
        """Of the page, as a screen of that size would have it."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def dark(self, dark: bool) -> None:
        scheme = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol, and its result."""
        if self._socket is None:
            raise AssertionError("the browser is not started")
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                message = await self._exchange(self._socket, method, params)
        except TimeoutError:
            raise AssertionError(f"{method}: no answer in {CALL_TIMEOUT_S:g} s") from None
        if "error" in message:
            raise AssertionError(f"{method}: {message['error']}")
        result: dict[str, Any] = message["result"]
        return result

    async def _exchange(
        self, socket: ClientConnection, method: str, params: dict[str, Any]
    ) -> dict[str, Any]:
        """The answer; what the page says meanwhile, which may be without end, is noted."""
        number = next(self._ids)
        await socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message: dict[str, Any] = json.loads(await socket.recv())
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.console.append(json.dumps(message["params"]))
            if message.get("id") == number:
                return message

    async def __aenter__(self) -> Self:
        self._process.spawn()
        try:
            await until(self._listens, self._process.log_tail)
            port = self._port_file.read_text().split()[0]
            address = await self._page_address(port)
            self._socket = await connect(
                address,
                max_size=None,
                ping_interval=None,
                open_timeout=CALL_TIMEOUT_S,
                close_timeout=CLOSE_TIMEOUT_S,
            )
            for domain in ("Page", "Runtime", "Log"):
                await self.call(f"{domain}.enable")
        except BaseException:
            self._close()
            raise
        return self

    def _listens(self) -> bool:
        if not self._process.running:
            raise AssertionError(self._process.log_tail())
        return self._port_file.exists() and "\n" in self._port_file.read_text()

    async def _page_address(self, port: str) -> str:
        """The first page's DevTools address, from the browser's list of targets."""
        pages: list[str] = []

        async def is_there() -> bool:
            async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
                targets = (await http.get(f"http://127.0.0.1:{port}/json/list")).json()
            pages[:] = [one["webSocketDebuggerUrl"] for one in targets if one["type"] == "page"]
            return bool(pages)

        await until(is_there, "the browser has no page")
        return pages[0]

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._socket is not None:
                await self._socket.close()  # within the time that `connect` was given
        finally:
            self._close()

    def _close(self) -> None:
        self._process.close()
        self._folder.cleanup()
