"""The application: takes uploads, lists them in the feed of their user, and issues tokens."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import jwt
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from examples.celery_fastapi.tasks import REDIS, import_rows
from tidegate import AsyncPublisher

GATEWAY = os.environ["GATEWAY_URL"]
SECRET = os.environ["TIDEGATE_AUTH__SECRET"]
MAX_BYTES = 1_000_000
TOKEN_FOR_S = 600

publisher = AsyncPublisher(REDIS)
#: Who asks; a real application knows it from its session.
User = Annotated[str, Query(pattern="^[a-z]{1,20}$")]


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with publisher:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/token")
def token(user: User) -> PlainTextResponse:
    """Allows the user to watch the own feed, and to watch and cancel the own operations."""
    claims = {
        "sub": user,
        "exp": int(time.time()) + TOKEN_FOR_S,
        "operations": [f"user:{user}", f"{user}.*"],
        "cancel_operations": [f"{user}.*"],
    }
    return PlainTextResponse(jwt.encode(claims, SECRET, "HS256"))


@app.post("/uploads")
async def upload(
    request: Request,
    user: User,
    name: Annotated[str, Query(min_length=1, max_length=100)],
    seconds_per_row: Annotated[float, Query(ge=0, le=1)] = 0.05,
) -> dict[str, str]:
    """Start the import of the rows in the body; the id of its operation."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BYTES:
            raise HTTPException(413, "the file is too large")
    rows = body.decode(errors="replace").splitlines()
    operation = f"{user}.{uuid4()}"
    # Before there is a task: pages of the user show it while it waits for a worker.
    await publisher.start(operation, feed=f"user:{user}", title=name)
    import_rows.apply_async(
        (rows, seconds_per_row),
        task_id=operation,
        headers={"tidegate": {"operation": operation, "title": name}},
    )
    return {"operation": operation}


@app.get("/")
def page() -> HTMLResponse:
    """The page, with the address of the gateway."""
    text = Path(__file__).with_name("page.html").read_text("utf-8")
    return HTMLResponse(text.replace("GATEWAY_URL", GATEWAY))


@app.get("/tidegate.js")
def script() -> Response:
    """`element.min.js` of @tidegate/client; an application takes it from npm."""
    file = resources.files("tidegate.web.demo") / "static" / "tidegate.js"
    return Response(file.read_bytes(), media_type="text/javascript")
