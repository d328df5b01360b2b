"""One WebSocket of the application that watches an operation.

Frames go out through the same `AsgiSender` as on a gateway, one task per guest. The application
keeps reading the socket: whatever closes it, its next `receive` raises `WebSocketDisconnect`.
"""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from functools import partial
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tidegate.core.records import Ask
from tidegate.core.slots import SlotKeeper, new_connection_id
from tidegate.embed.state import State, with_state
from tidegate.gateway.viewer import ChannelViewer
from tidegate.model.batch import Batch
from tidegate.model.frames import StateFrame
from tidegate.model.ids import OperationId
from tidegate.model.settings import ViewerSettings
from tidegate.web.asgi_sender import AsgiSender


class EmbeddedConnection:
    """A socket, who it belongs to, and what it watches."""

    def __init__(
        self,
        websocket: WebSocket,
        user: str,
        wanted: tuple[OperationId, Ask],
        slots: SlotKeeper,
        settings: ViewerSettings,
    ) -> None:
        self.websocket = websocket
        self.user = user
        self.operation, ask = wanted
        self.ask = ask._replace(by=f"user {user}")
        self.connection = new_connection_id()
        self.slots = slots
        #: What the getter said; becomes part of `current_state`.
        self.state: State = {}
        #: Waits for Redis, to join.
        self.joining: asyncio.Task[None] | None = None
        self.sender = _Sender(self, settings)

    @property
    def viewer(self) -> ChannelViewer | None:
        """Its place in the hub, once it has joined."""
        listener = self.sender.listener
        return listener if isinstance(listener, ChannelViewer) else None


class _Sender(AsgiSender):
    """Adds what the getter said to `current_state`."""

    def __init__(self, embedded: EmbeddedConnection, settings: ViewerSettings) -> None:
        super().__init__(
            partial(send, embedded.websocket),
            high_water_bytes=settings.high_water_bytes,
            low_water_bytes=settings.low_water_bytes,
        )
        self._embedded = embedded
        self._was_told_state = False

    async def _transmit(self, batch: Batch) -> None:
        first, *others = batch.frames
        if isinstance(first, StateFrame):  # where it is, it is the first
            if self._was_told_state:  # while Redis was away
                batch = Batch(others)
            else:
                batch = Batch([with_state(first, self._embedded.state), *others])
            self._was_told_state = True
        await super()._transmit(batch)


async def send(websocket: WebSocket, message: MutableMapping[str, Any]) -> None:
    """Send; a socket that is gone raises OSError, as ASGI has it."""
    try:
        await websocket.send(message)
    except WebSocketDisconnect as error:
        raise BrokenPipeError(str(error)) from None
    except RuntimeError:
        if websocket.application_state is WebSocketState.CONNECTED:
            raise
        raise BrokenPipeError("the application has closed it") from None
    if message["type"] == "websocket.close":
        # Else Starlette would answer the application's next receive with a RuntimeError instead
        # of the disconnect message that is on its way.
        websocket.application_state = WebSocketState.CONNECTED
