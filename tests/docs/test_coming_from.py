"""The Python code of docs/coming-from.md after each change: run as it stands, seen by a viewer.

What it shows on a page is run by tests/clients/test_docs_examples.py. Functions that do the
reader's own work are the test's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.docs.console import ROOT, fences
from tests.harness.replica import Replica
from tests.harness.viewer import Viewer
from tests.servers.standalone import Server
from tests.web.auth.tokens import SECRET
from tidegate import AsyncPublisher, Publisher

PAGE = "docs/coming-from.md"


def after(section: str) -> dict[str, Any]:
    """What the code under `**After**` of a section defines; run for this call only."""
    found = [
        fence
        for fence in fences()
        if fence.page == PAGE
        and fence.kind == "python"
        and fence.before.rpartition("\n## ")[2].startswith(f"{section}\n")
        and "**After**" in fence.before.rpartition("\n## ")[2]
    ]
    (code,) = found
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(code.text, f"{PAGE}:{code.line}", "exec"), names)
    return names


async def test_from_socket_io(redis_server: Server) -> None:
    names = after("From Socket.IO")
    written: list[str] = []

    async def write(row: str) -> None:
        written.append(row)

    names["write"] = write
    async with (
        Replica(redis_server.url) as replica,
        AsyncPublisher(redis_server.url) as publisher,
        replica.watch("42") as viewer,
    ):
        await names["export"](publisher, "42", ["a", "b", "c"])
        frames, close = await viewer.rest()
    assert written == ["a", "b", "c"]
    report = next(frame for frame in frames if frame["type"] == "report")
    assert report["data"] == {"result": "3 rows"}
    counts = [f["data"] for f in frames if f["type"] == "progress"]
    assert (counts[-1]["current"], counts[-1]["total"]) == (3, 3)
    assert (frames[-1]["type"], close.code) == ("operation_completed", 1000)


async def test_from_channels(redis_server: Server) -> None:
    names = after("From Django Channels")
    saved: list[str] = []
    names["save"] = saved.append
    settings: dict[str, Any] = {
        "server": {"auth": "jwt"},
        "auth": {"secret": SECRET},
        "source": {"kind": "claims"},
    }
    token = names["viewer_token"]("ann", ["import-7"], SECRET)
    headers = {"additional_headers": {"Authorization": f"Bearer {token}"}}
    async with Replica(redis_server.url, **settings) as replica:
        async with Viewer(replica.url("import-7"), **headers) as viewer:
            with Publisher(redis_server.url) as publisher:
                await asyncio.to_thread(names["import_file"], publisher, "import-7", ["a", "b"])
            frames, close = await viewer.rest()
        async with Viewer(replica.url("import-8"), **headers) as other:
            _, refused = await other.rest()
    assert saved == ["a", "b"]
    counts = [frame["data"] for frame in frames if frame["type"] == "progress"]
    assert (counts[-1]["current"], counts[-1]["total"]) == (2, 2)
    assert (close.code, refused.code) == (1000, 4403)


async def test_from_sse_starlette(redis_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_REDIS__URL", redis_server.url)
    names = after("From sse-starlette")

    async def run_export(export_id: str) -> AsyncIterator[dict[str, str]]:
        for sheet in ("first", "second"):
            yield {"sheet": f"{sheet} of {export_id}"}

    names["run_export"] = run_export
    app = names["app"]
    async with Replica(redis_server.url) as replica, app.router.lifespan_context(app) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app(scope | {"state": dict(state)}, receive, send)  # as an ASGI server does

        transport = httpx.ASGITransport(with_state)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://app") as client,
            httpx.AsyncClient() as page,
        ):
            assert (await client.post("/exports/export-3")).status_code == 202
            port = replica.settings.server.port
            url = f"http://127.0.0.1:{port}/sse/operations/export-3"
            # It has ended: what is sent is its state, its history, and the end.
            text = (await page.get(url)).text
    assert "second of export-3" in text
    assert text.rstrip().splitlines()[-2] == "event: end"


def test_every_block_is_run() -> None:
    page = (ROOT / PAGE).read_text("utf-8")
    assert page.count("**After**") == 3
    for section in ("From Socket.IO", "From Django Channels", "From sse-starlette"):
        assert after(section)
