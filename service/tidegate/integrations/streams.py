"""Token streams of models: the chunks of any iterator as `append` entries, and passed through.

    for chunk in append_chunks(op, client.chat.completions.create(..., stream=True)):
        ...

Understands chunks of OpenAI's chat completions (`choices[0].delta.content`) and responses (an event
`response.output_text.delta`), of LangChain (`content`), and plain texts; `text_of` reads others.
Small deltas that come within an interval go out together: the joined text is the same.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeVar

from tidegate.integrations.reported import TaskOperation

C = TypeVar("C")
APPEND = "append"
#: Deltas are joined for so long, or up to so many characters.
JOIN_S = 0.05
JOIN_MAX_CHARS = 2_000
#: Of one entry; longer texts are several.
TEXT_MAX_CHARS = 16_000
TextOf = Callable[[Any], str | None]


class Appending:
    """Joins small texts of one operation into `append` entries."""

    def __init__(self, op: TaskOperation, clock: Callable[[], float] = time.monotonic) -> None:
        self._op = op
        self._clock = clock
        self._texts: list[str] = []
        self._chars = 0
        self._since = -JOIN_S

    def add(self, text: str) -> None:
        """Add a text. The first one is sent at once."""
        if not text:
            return
        self._texts.append(text)
        self._chars += len(text)
        now = self._clock()
        if self._chars >= JOIN_MAX_CHARS or now >= self._since + JOIN_S:
            self._since = now
            self.flush()

    def flush(self) -> None:
        """Send the texts that are held."""
        whole, self._texts, self._chars = "".join(self._texts), [], 0
        for start in range(0, len(whole), TEXT_MAX_CHARS):
            self._op.publish(APPEND, {"text": whole[start : start + TEXT_MAX_CHARS]})


def append_chunks(
    op: TaskOperation, chunks: Iterable[C], *, text_of: TextOf | None = None
) -> Iterator[C]:
    """Yield each chunk after its text was appended to the operation.

    Args:
        text_of: returns the text of a chunk; None for a chunk without text.
    """
    read = text_of or chunk_text
    appending = Appending(op)
    try:
        for chunk in chunks:
            appending.add(read(chunk) or "")
            yield chunk
    finally:
        appending.flush()


async def append_chunks_async(
    op: TaskOperation, chunks: AsyncIterable[C], *, text_of: TextOf | None = None
) -> AsyncIterator[C]:
    """As `append_chunks`, for an `async for`."""
    read = text_of or chunk_text
    appending = Appending(op)
    try:
        async for chunk in chunks:
            appending.add(read(chunk) or "")
            yield chunk
    finally:
        appending.flush()


def chunk_text(chunk: Any) -> str | None:
    """The text of a chunk in a common format, as an object or a mapping; None if it has none."""
    if isinstance(chunk, str):
        return chunk
    choices = _member(chunk, "choices")
    if isinstance(choices, list | tuple):
        if not choices:
            return None
        delta = _member(choices[0], "delta")
        text = _member(choices[0], "text") if delta is None else _member(delta, "content")
        return _text(text)
    type_ = _member(chunk, "type")
    if isinstance(type_, str) and type_.startswith("response."):
        return _text(_member(chunk, "delta")) if type_ == "response.output_text.delta" else None
    return _text(_member(chunk, "content"))


def _member(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    return getattr(value, name, None)


def _text(content: Any) -> str | None:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [part if isinstance(part, str) else _member(part, "text") for part in content]
        return "".join(text for text in texts if isinstance(text, str)) or None
    return None
