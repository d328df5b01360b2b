"""A model without a network: it answers every question with the same long text, token by token."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

PARAGRAPHS = 400
TOKENS_PER_S = 25


def answer(question: str) -> str:
    """All that it will say. No two paragraphs are alike, so a lost token is noticed."""
    paragraphs = (
        f"{n}. Token {n} of this answer to “{question}” is one entry of a Redis Stream 🌊; "
        f"whoever has read {n - 1} paragraphs continues here.\n\n"
        for n in range(1, PARAGRAPHS + 1)
    )
    return "".join(paragraphs)


async def stream(question: str) -> AsyncIterator[str]:
    """The tokens: words, their spaces, and punctuation."""
    for token in re.findall(r"\w+|\s+|[^\w\s]", answer(question)):
        yield token
        await asyncio.sleep(1 / TOKENS_PER_S)
