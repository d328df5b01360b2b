"""A gateway that does what a case of the conformance kit says, on a clock that a test moves.

`connect` stands in for that of websockets: each call is a connection, which sends the frames of the
case up to the next close. When nothing is left, both the next connection and the next frame are
`Over`, which no client knows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Any, Self

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.frames import Close
from websockets.http11 import Response

from tests.client.vectors import Case, texts_of

#: The clock moves by this much where a test lets it run.
TICK_MS = 5.0


class Over(Exception):
    """The case has no more steps."""


class ScriptedGateway:
    """Of one case."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._steps = deque(case.steps)
        self._ended_s: float | None = None
        self._expected: dict[str, Any] | None = None
        self._waits: list[tuple[float, list[float]]] = []

    @property
    def expected_end(self) -> dict[str, Any] | None:
        """What the last close asks for; None when the case is cut off before an end."""
        last = self._case.steps[-1].get("then", {"do": "return"})
        return None if last["do"] == "return" else last

    async def connect(self, url: str, **_: Any) -> Connection:
        now_s = asyncio.get_running_loop().time()
        if self._ended_s is not None and self._expected is not None:
            assert self._expected["do"] == "return", self._case.name
            cursor = self._expected["last_event_id"]
            assert (f"last_event_id={cursor}&" in url) if cursor else ("last_event_id" not in url)
            self._waits.append(((now_s - self._ended_s) * 1000, self._expected["after_ms"]))
        if not self._steps:
            raise Over
        if "http" in self._steps[0]:
            step = self._end()
            headers = Headers({"Retry-After": step["retry_after"]} if "retry_after" in step else {})
            raise InvalidStatus(Response(step["http"], "words", headers))
        return Connection(self)

    def receive(self) -> str | int:
        """The next text, or the code of the close."""
        if not self._steps:
            raise Over
        text = texts_of(self._steps[0])
        if text is not None:
            self._steps.popleft()
            return text
        code: int = self._end()["close"]
        return code

    def check_waits(self) -> None:
        """It came back when it should."""
        for waited_ms, (least, most) in self._waits:
            assert least - TICK_MS <= waited_ms <= most + TICK_MS, self._case.name

    def _end(self) -> dict[str, Any]:
        step = self._steps.popleft()
        self._ended_s, self._expected = asyncio.get_running_loop().time(), step["then"]
        return step


class Connection:
    """One of them, as `websockets` has it."""

    def __init__(self, gateway: ScriptedGateway) -> None:
        self._gateway = gateway
        self.close_code: int | None = None
        self.close_reason = ""

    async def recv(self) -> str:
        received = self._gateway.receive()
        if isinstance(received, str):
            return received
        # 1006 is what a client says of a connection without a close.
        self.close_code = received
        close = Close(received, "") if received != 1006 else None
        raise ConnectionClosedError(close, None)

    async def send(self, text: str) -> None:
        """Acknowledgements."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None
