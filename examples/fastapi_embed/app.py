"""An application that has the gateway inside: no other process is needed but Redis.

It may run in any number of workers. A report is written in one of them, and watched in any.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import BackgroundTasks, Depends, FastAPI, Query, WebSocket
from fastapi.responses import FileResponse

from tidegate.embed import ws_manager

CHAPTERS = 20
CHAPTER_S = 0.2
FORBIDDEN = 4403


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    await ws_manager.startup()  # at TIDEGATE_REDIS__URL
    yield
    await ws_manager.shutdown()


app = FastAPI(lifespan=lifespan)


def current_user(user: Annotated[str, Query(pattern="^[a-z]{1,20}$")] = "ann") -> str:
    """Who asks; a real application knows it from its session."""
    return user


User = Annotated[str, Depends(current_user)]


@app.post("/reports")
async def begin(user: User, background: BackgroundTasks) -> dict[str, str]:
    """Begin a report; its operation names its owner."""
    report = f"{user}.{uuid4()}"
    background.add_task(write, report)
    return {"operation": report}


async def write(report: str) -> None:
    """Publish each step; viewers receive it in whichever worker they are."""
    await ws_manager.send_update(report, "operation_started", {"title": "Report"})
    for chapter in range(1, CHAPTERS + 1):
        await asyncio.sleep(CHAPTER_S)  # the work
        await ws_manager.send_update(report, "progress", {"current": chapter, "total": CHAPTERS})
    await ws_manager.send_update(report, "operation_completed", {"result": f"{CHAPTERS} chapters"})


@app.websocket("/ws/operations/{operation}")
async def watch(websocket: WebSocket, operation: str, user: User) -> None:
    """Who may watch is decided here; the gateway does the rest."""
    if not operation.startswith(f"{user}."):
        # Accepted first: browsers do not tell a page why a socket was not.
        await websocket.accept("tidegate.v1")
        await websocket.close(FORBIDDEN, "this report belongs to another user")
        return
    await ws_manager.serve(websocket, operation, user)


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))
