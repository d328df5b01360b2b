"""The messages that a viewer may send on its socket, and their rate: one small object per
connection.

Messages are JSON objects with a `type`. `ping` is answered, endpoints may add types, and all others
are answered as unknown. A message that causes much work counts as several.

`{"type":"ack","id":...}` acknowledges an entry. It is parsed strictly, because it is external
input; the subscription service knows whether it was requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from tidegate.core.ports import Sender, SubscriptionService
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.errors import InvalidInput
from tidegate.model.frames import PONG, Frame, error_frame
from tidegate.model.ids import StreamId, parse_stream_id

#: What else a viewer may say: type -> who reads the whole text.
Handlers = Mapping[str, Callable[[str], None]]
ONLY_PING: Handlers = MappingProxyType({})

#: A new token is verified, and all that is watched is asked about again: it counts as so many
#: messages, yet never as more than half of what is allowed in a second, so that one always passes.
REFRESH_COSTS = 20
#: The source is asked, and Redis twice.
CANCEL_COSTS = 10
_COSTLY = MappingProxyType({"refresh": REFRESH_COSTS, "cancel": CANCEL_COSTS})


class _ViewerMessage(msgspec.Struct):
    type: str


_decode = msgspec.json.Decoder(_ViewerMessage).decode


class Session:
    """Reads inbound texts; bounded per second, and closed when that is not kept to."""

    __slots__ = ("_count", "_handlers", "_per_s", "_since", "sender")

    def __init__(
        self, sender: Sender, messages_per_s: float, handlers: Handlers = ONLY_PING
    ) -> None:
        self.sender = sender
        self._per_s = messages_per_s
        self._handlers = handlers
        self._count = 0.0
        self._since = 0.0

    def on_text(self, text: str) -> None:
        """One message from the viewer."""
        now = asyncio.get_running_loop().time()
        if now - self._since >= 1.0:
            self._count, self._since = 0.0, now
        if not self._may_cost(1):
            return
        try:
            kind = _decode(text).type
        except (msgspec.MsgspecError, RecursionError, ValueError):
            self._answer(
                error_frame("bad_message", 'must be a JSON object with a "type"', retry=False)
            )
            return
        if kind == "ping":
            self._answer(PONG)
        elif (handler := self._handlers.get(kind)) is not None:
            costs = _COSTLY.get(kind)
            if costs is None or self._may_cost(min(costs, self._per_s / 2) - 1):
                handler(text)
        else:
            known = ", ".join(("ping", *self._handlers))
            self._answer(error_frame("unknown_message", f"known types: {known}", retry=False))

    def _may_cost(self, more: float) -> bool:
        """Count it; one that goes beyond what is allowed is the last message."""
        self._count += max(0.0, more)
        if self._count <= self._per_s:
            return True
        self._answer(error_frame("too_many_messages", "slow down", retry=False))
        self.sender.close(close_codes.BAD_REQUEST)
        return False

    def _answer(self, frame: Frame) -> None:
        if self.sender.writable:  # one that does not read its answers gets none
            self.sender.write(Batch([frame]))


class _Ack(msgspec.Struct):
    """The message; `operation` on a socket with several."""

    id: str
    operation: str | None = None


_decode_ack = msgspec.json.Decoder(_Ack).decode


def read_ack(text: str) -> tuple[StreamId, str | None]:
    """The entry's id, and the operation if one is named.

    Raises:
        InvalidInput: it is no such message, or the id is none.
    """
    try:
        message = _decode_ack(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidInput("ack", str(error)) from None
    return parse_stream_id(message.id, "id"), message.operation


def on_ack(subscriptions: SubscriptionService, sender: Sender) -> Callable[[str], None]:
    """Reads the acknowledgements of a socket with one operation."""

    def read(text: str) -> None:
        try:
            entry_id, _ = read_ack(text)
        except InvalidInput as error:
            if sender.writable:
                sender.write(Batch([error_frame("bad_message", str(error), retry=False)]))
            return
        subscriptions.acked(sender, entry_id)

    return read
