"""What a viewer says when it was asked whether it has an entry: `{"type":"ack","id":...}`.

Read strictly, because it comes from outside; whether it was asked for is known to the lobby.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tidegate.core.ports import Lobby, Sender
from tidegate.model.errors import InvalidInput
from tidegate.model.frames import error_frame
from tidegate.model.ids import StreamId, parse_stream_id


class Ack(msgspec.Struct):
    """The message; `operation` on a socket with several."""

    id: str
    operation: str | None = None


_decode = msgspec.json.Decoder(Ack).decode


def read_ack(text: str) -> tuple[StreamId, str | None]:
    """The entry's id, and the operation if one is named.

    Raises:
        InvalidInput: it is no such message, or the id is none.
    """
    try:
        message = _decode(text)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise InvalidInput("ack", str(error)) from None
    return parse_stream_id(message.id, "id"), message.operation


def on_ack(lobby: Lobby, sender: Sender) -> Callable[[str], None]:
    """Reads the acknowledgements of a socket with one operation."""

    def read(text: str) -> None:
        try:
            entry_id, _ = read_ack(text)
        except InvalidInput as error:
            if sender.writable:
                sender.write(error_frame("bad_message", str(error), retry=False))
            return
        lobby.acked(sender, entry_id)

    return read
