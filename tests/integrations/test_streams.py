"""Chunks of models as entries: the joined text is that of the model, the chunks pass through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.integrations.reported import Reports, TaskOperation
from tidegate.integrations.streams import (
    TEXT_MAX_CHARS,
    Appending,
    append_chunks,
    append_chunks_async,
    chunk_text,
)


class Recorder:
    """A reporter that only remembers."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Any]] = []

    def publish(self, operation: str, type_: str, data: Any = None) -> bool:
        self.published.append((type_, data))
        return True

    @property
    def texts(self) -> list[str]:
        return [data["text"] for type_, data in self.published if type_ == "append"]


def operation(recorder: Recorder) -> TaskOperation:
    return TaskOperation(cast("Reports", recorder), "42")


def chat(content: str | None) -> Any:
    return SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=content))])


@pytest.mark.parametrize(
    ("chunk", "text"),
    [
        ("Hel", "Hel"),
        (chat("Hel"), "Hel"),
        (chat(None), None),
        (SimpleNamespace(choices=[]), None),  # the last one, with the usage
        ({"choices": [{"delta": {"content": "Hel"}}]}, "Hel"),
        ({"choices": [{"delta": {"role": "assistant"}}]}, None),
        ({"choices": [{"text": "Hel"}]}, "Hel"),
        (SimpleNamespace(type="response.output_text.delta", delta="Hel"), "Hel"),
        (SimpleNamespace(type="response.function_call_arguments.delta", delta="{"), None),
        (SimpleNamespace(content="Hel"), "Hel"),
        (SimpleNamespace(content=[{"type": "text", "text": "Hel"}, {"type": "image"}]), "Hel"),
        (SimpleNamespace(content=7), None),
        (None, None),
        (b"Hel", None),
    ],
)
def test_the_text_of_usual_chunks(chunk: Any, text: str | None) -> None:
    assert chunk_text(chunk) == text


@given(
    texts=st.lists(st.text(max_size=40), max_size=40),
    gaps=st.lists(st.floats(0, 0.2), min_size=40, max_size=40),
)
def test_the_joined_text_is_that_of_the_model(texts: list[str], gaps: list[float]) -> None:
    recorder = Recorder()
    times = iter([sum(gaps[:n]) for n in range(41)])
    appending = Appending(operation(recorder), clock=lambda: next(times))
    for text in texts:
        appending.add(text)
    appending.flush()
    assert "".join(recorder.texts) == "".join(texts)
    assert all(recorder.texts)


def test_the_first_chunk_goes_out_at_once_and_long_ones_in_parts() -> None:
    recorder = Recorder()
    appending = Appending(operation(recorder), clock=lambda: 0.0)
    appending.add("first")
    assert recorder.texts == ["first"]
    appending.add("x" * (2 * TEXT_MAX_CHARS + 1))
    assert [len(text) for text in recorder.texts[1:]] == [TEXT_MAX_CHARS, TEXT_MAX_CHARS, 1]


def test_chunks_pass_through_and_an_error_loses_no_text() -> None:
    def model() -> Any:
        yield from (first, second)
        raise ConnectionError

    first, second = chat("Hel"), chat("lo")
    recorder = Recorder()
    got: list[Any] = []
    with pytest.raises(ConnectionError):
        got.extend(append_chunks(operation(recorder), model()))
    assert got == [first, second]
    assert "".join(recorder.texts) == "Hello"


async def test_the_same_for_async_for() -> None:
    async def model() -> Any:
        for number in range(3):
            yield number

    recorder = Recorder()
    stream = append_chunks_async(operation(recorder), model(), text_of=lambda n: f"<{n}>")
    assert [chunk async for chunk in stream] == [0, 1, 2]
    assert "".join(recorder.texts) == "<0><1><2>"
