"""The application: takes uploads, lists those of a user, and stops them."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from uuid import uuid4

import redis.asyncio
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from examples.celery_fastapi.tasks import REDIS, import_rows

GATEWAY = os.environ["GATEWAY_URL"]
MAX_BYTES = 1_000_000
MAX_LISTED = 20

app = FastAPI()
db = redis.asyncio.Redis.from_url(REDIS, decode_responses=True)


def user_of(request: Request) -> str:
    """Who asks; a real application looks into its session."""
    return request.query_params.get("user", "ann")


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


@app.post("/uploads")
async def upload(request: Request, name: str, seconds_per_row: float = 0.05) -> dict[str, str]:
    """Start the import of the rows in the body; the id of its operation."""
    body = await request.body()
    if len(body) > MAX_BYTES:
        raise HTTPException(413, "the file is too large")
    rows = body.decode(errors="replace").splitlines()
    operation = str(uuid4())
    # Listed first: a page that asks now shows an operation that has not begun.
    key = f"uploads:{user_of(request)}"
    await db.lpush(key, operation)
    await db.ltrim(key, 0, MAX_LISTED - 1)
    import_rows.apply_async(
        (rows, min(max(seconds_per_row, 0.0), 1.0)),
        task_id=operation,
        headers={"tidegate": {"operation": operation, "title": name[:100]}},
    )
    return {"operation": operation}


@app.get("/uploads")
async def uploads(request: Request) -> list[str]:
    """The operations of the user, newest first."""
    return [str(one) for one in await db.lrange(f"uploads:{user_of(request)}", 0, -1)]


@app.delete("/uploads/{operation}")
async def stop(request: Request, operation: str) -> None:
    """Stop one of the user's own."""
    if operation not in await uploads(request):
        raise HTTPException(404, "there is no such upload")
    import_rows.app.control.revoke(operation, terminate=True)
