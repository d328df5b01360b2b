"""The application: takes questions, and publishes the answers of its model token by token."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Annotated
from uuid import uuid4

from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse, Response

from examples.llm_stream import model
from tidegate import AsyncPublisher, OperationCancelled

GATEWAYS = os.environ["GATEWAY_URLS"].split(",")
#: Above the number of tokens of the longest answer: a trimmed stream loses its beginning.
MAX_TOKENS = 20_000

publisher = AsyncPublisher(cap=MAX_TOKENS)
answers: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with publisher:
        yield
        for answer in answers:
            answer.cancel()  # its operation is cancelled
        await asyncio.gather(*answers, return_exceptions=True)


app = FastAPI(lifespan=lifespan)


@app.post("/chats")
async def ask(
    question: Annotated[str, Body(embed=True, min_length=1, max_length=200)],
) -> dict[str, str]:
    """Begin an answer; the id of its operation."""
    chat = f"chat-{uuid4()}"
    answering = asyncio.create_task(answer(chat, question))
    answers.add(answering)
    answering.add_done_callback(answers.discard)
    return {"operation": chat}


async def answer(chat: str, question: str) -> None:
    """Publish each token, until the end or until a viewer cancels."""
    with suppress(OperationCancelled):
        async with publisher.operation(chat, title=question) as operation:
            async for token in model.stream(question):
                await operation.raise_if_cancelled()
                await operation.publish("append", {"text": token})


@app.get("/")
def page() -> HTMLResponse:
    """The page, with the addresses of the replicas."""
    text = Path(__file__).with_name("page.html").read_text("utf-8")
    return HTMLResponse(text.replace("GATEWAY_URLS", str(GATEWAYS)))


@app.get("/tidegate.js")
def script() -> Response:
    """`element.min.js` of @tidegate/client; an application takes it from npm."""
    file = resources.files("tidegate.web.demo") / "static" / "tidegate.js"
    return Response(file.read_bytes(), media_type="text/javascript")
