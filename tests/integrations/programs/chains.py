"""LangChain core: a scripted model, a tool and an error, streamed and at once, sync and async."""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from tidegate.integrations import append_chunks, operation, shared_reporter
from tidegate.integrations.langchain import OperationCallback

TEXT = "The answer, token by token: größer."


def model() -> Any:
    return GenericFakeChatModel(messages=iter([AIMessage(content=TEXT)]))


@tool
def search(query: str) -> str:
    """Find something."""
    return query


def refuse(_: Any) -> Any:
    raise ValueError("no, password=hunter2")


def config(op: Any) -> Any:
    return {"callbacks": [OperationCallback(op)]}


async def streamed() -> None:
    with operation("async") as op:
        async for _ in model().astream("question", config=config(op)):
            pass


with operation("stream") as op:
    for _ in model().stream("question", config=config(op)):
        pass
asyncio.run(streamed())
with operation("chunks") as op:
    assert "".join(one.content for one in append_chunks(op, model().stream("question"))) == TEXT
with operation("tools") as op:
    search.invoke("tides", config=config(op))
try:
    with operation("error") as op:
        (RunnableLambda(lambda text: text) | RunnableLambda(refuse)).invoke("x", config=config(op))
except ValueError:
    pass
assert shared_reporter().flush(60)
