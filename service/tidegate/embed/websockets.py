"""`RedisStreamWebSocketManager`: what an application calls to let its own WebSockets watch.

It owns who is connected, and translates: a Starlette socket becomes a viewer of the hub, an update
becomes an entry of the stream, a getter's answer becomes part of the first frame. Order, history,
gaps, lag and repair are the hub's.

While Redis is away, viewers are let in with what the getter says and a `stale` frame, and updates
reach the viewers of this process only. When it is back they get `live`, then history and live
frames as if they had come now.
"""

from __future__ import annotations

import asyncio
import random
from urllib.parse import parse_qsl, urlencode

import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from tidegate.client.messages import message
from tidegate.core.cancelling import CancelReply
from tidegate.core.slots import Full, Replaced, Verdict
from tidegate.core.topic import UNKNOWN_STATUS
from tidegate.embed.connection import EmbeddedConnection, send
from tidegate.embed.engine import Engine, Lost
from tidegate.embed.environment import embedded_settings
from tidegate.embed.state import Getter, GetterFailed, NoSuchOperation, ask
from tidegate.embed.updates import Sent, Stored
from tidegate.gateway.hub import unstored_frame
from tidegate.gateway.services import utc_now
from tidegate.gateway.viewer import ViewerState
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode, ComeBack
from tidegate.model.errors import (
    InvalidInput,
    Overloaded,
    RedisUnavailable,
    StreamUnusable,
    WriteUncertain,
)
from tidegate.model.frames import (
    current_state_frame,
    error_frame,
    live_frame,
    reconnect_frame,
    stale_frame,
)
from tidegate.model.ids import ZERO, OperationId, parse_operation_id
from tidegate.model.settings import Settings
from tidegate.web.auth.identity import is_user_id
from tidegate.web.frame_schemas import SUBPROTOCOL
from tidegate.web.problem import Refusal, refuse
from tidegate.web.request import read_ask
from tidegate.web.ws.session import Session

log = structlog.get_logger(__name__)

#: `startup` waits this long for Redis, a viewer this long, before they go on without it.
STARTUP_PATIENCE_S = 3.0
JOIN_PATIENCE_S = 1.0
#: An update waits this long for a Redis that was already away; else `redis.reply_timeout_s` holds.
AWAY_PATIENCE_S = 1.0
REJOIN_DELAY_S = 0.2
COME_BACK_SPREAD_MS = 2_000


class RedisStreamWebSocketManager:
    """Serves viewers in this process. Call its methods from one event loop only."""

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        settings: Settings | None = None,
    ) -> None:
        self._redis_url = redis_url
        self._settings = settings
        self._getter: Getter | None = None
        self._engine: Engine | None = None
        self._connections: dict[WebSocket, EmbeddedConnection] = {}

    # -- life -------------------------------------------------------------------------------------

    async def startup(
        self,
        redis_url: str | None = None,
        *,
        settings: Settings | None = None,
        patience_s: float = STARTUP_PATIENCE_S,
    ) -> bool:
        """Start, and return whether Redis is connected within `patience_s`. Otherwise only viewers
        of this process receive updates until it is. May be called repeatedly.

        Raises:
            SettingsError: the URL, the settings or a `TIDEGATE_` variable is invalid.
        """
        if self._engine is None or not self._engine.is_running:
            self._redis_url = redis_url or self._redis_url
            self._settings = settings or self._settings
        connected = await (await self._begin()).connected(patience_s)
        if not connected:
            log.warning("Redis is unavailable; updates reach viewers of this process only")
        return connected

    async def shutdown(self) -> None:
        """Ask all viewers to reconnect, and stop. May be called at any time, and repeatedly."""
        engine, self._engine = self._engine, None
        if engine is None or not engine.is_running:
            return
        for embedded in tuple(self._connections.values()):
            if embedded.sender.writable:
                after_ms = random.randrange(COME_BACK_SPREAD_MS)
                embedded.sender.write(Batch([reconnect_frame(after_ms, "draining")]))
            _close(embedded, close_codes.DRAINING)
        await engine.stop()

    # -- viewers ----------------------------------------------------------------------------------

    def set_operation_getter(self, getter: Getter | None) -> None:
        """Set the function that returns the state of an operation (see `tidegate.embed.state`).
        None: the state is computed from the stream.
        """
        self._getter = getter

    async def connect(self, websocket: WebSocket, operation_id: str, user_id: str) -> bool:
        """Accept the socket unless the application has, and send state, history and live entries.

        The parameters `last_event_id` and `history` of its query are used. The application
        continues to read from the socket, and calls `disconnect` when it ends.

        Returns:
            False if the viewer was refused: it received an `error` frame, and the socket was
                closed.
        """
        engine = await self._begin()
        if websocket.application_state is WebSocketState.CONNECTING:
            offered = websocket.scope.get("subprotocols", ())
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        viewer = engine.settings.viewer
        try:
            wanted = read_ask(str(operation_id), _asked(websocket), viewer)
            if not is_user_id(str(user_id)):
                raise InvalidInput("user_id", "must be 1 to 256 printable characters")
        except InvalidInput as error:
            return await _refuse(websocket, close_codes.BAD_REQUEST, str(error))
        embedded = EmbeddedConnection(websocket, str(user_id), wanted, engine.slots, viewer)
        try:
            verdict = await _take_slot(engine, embedded)
        except RedisUnavailable as error:
            return await _refuse(websocket, close_codes.OVERLOADED, str(error))
        if isinstance(verdict, Full):
            text = f"{verdict.count} of {verdict.limit} connections are open; close one of them"
            return await _refuse(websocket, close_codes.CONNECTION_LIMIT, text)
        try:
            if self._getter is not None:
                embedded.state = await ask(self._getter, embedded.operation)
        except NoSuchOperation:
            engine.slots.release(embedded.user, embedded.connection)
            return await _refuse(websocket, close_codes.NOT_FOUND, "there is no such operation")
        except GetterFailed as error:
            log.warning("operation getter", operation=embedded.operation, error=str(error))
            engine.slots.release(embedded.user, embedded.connection)
            text = "the operation's state is temporarily unavailable"
            return await _refuse(websocket, close_codes.OVERLOADED, text)
        except BaseException:  # cancelled: the socket is gone
            engine.slots.release(embedded.user, embedded.connection)
            raise
        self._connections[websocket] = embedded
        if isinstance(verdict, Replaced):
            engine.replaced(verdict.victims)
        engine.spawn(self._send_to(embedded), "embedded viewer")
        await self._admit(engine, embedded)
        return not embedded.sender.closed

    async def disconnect(self, websocket: WebSocket, operation_id: str, user_id: str) -> None:  # noqa: ARG002
        """Forget a socket that has ended. Unknown sockets are ignored."""
        embedded = self._connections.get(websocket)
        if embedded is not None:
            self._gone(embedded)

    async def serve(self, websocket: WebSocket, operation_id: str, user_id: str) -> None:
        """A complete endpoint: connect, answer pings within the limits of a gateway, disconnect."""
        if not await self.connect(websocket, operation_id, user_id):
            return
        embedded = self._connections[websocket]
        engine = await self._begin()
        session = Session(embedded.sender, engine.settings.viewer.messages_per_s)
        try:
            while True:
                session.on_text(await websocket.receive_text())
        except (WebSocketDisconnect, KeyError):  # KeyError: a binary message has no text
            pass
        finally:
            self._gone(embedded)

    async def close_connections(self, operation_id: str) -> int:
        """Close all viewers of this operation in this process with 1000, and return their
        number.
        """
        await self._begin()
        found = [g for g in self._connections.values() if g.operation == operation_id]
        for embedded in found:
            _close(embedded, close_codes.FINISHED)
        return len(found)

    # -- operations -------------------------------------------------------------------------------

    async def send_update(
        self, operation_id: str, update_type: str, data: dict[str, object]
    ) -> Sent:
        """Append an update to the stream of the operation; without Redis, send it to local viewers.

        Raises:
            InvalidInput: the id, the type or the data is invalid. No other errors are raised.
        """
        operation = parse_operation_id(str(operation_id))
        text = message(update_type, data)
        engine = await self._begin()
        ends = update_type in engine.settings.topic.terminal_types or (
            data.get("status") in engine.settings.topic.terminal_statuses
        )
        patience_s = None if engine.is_connected else AWAY_PATIENCE_S
        try:
            async with asyncio.timeout(patience_s):
                done = await engine.appender.append(operation, [text], ends=ends)
            return Sent(Stored.YES, id=done.ids[0])
        except (TimeoutError, WriteUncertain) as error:
            stored, reason = Stored.UNCERTAIN, str(error) or "no answer"
        except (RedisUnavailable, StreamUnusable) as error:
            stored, reason = Stored.NO, str(error)
        log.warning("update not stored", operation=operation, reason=reason)
        return Sent(stored, None, self._say_here(engine, operation, text), reason)

    async def cancel(self, operation_id: str, user_id: str | None = None) -> CancelReply:
        """Ask the worker of the operation to stop. The application decides who may; viewers see
        `user_id` as the requesting user.

        Returns:
            The outcome, and the id of the entry with the request.

        Raises:
            InvalidInput: the id is invalid.
            RedisUnavailable: the request may have been written; repeating it is safe.
            StreamUnusable: the key does not hold a stream.
        """
        operation = parse_operation_id(str(operation_id))
        user = None if user_id is None else str(user_id)
        if user is not None and not is_user_id(user):
            raise InvalidInput("user_id", "must be 1 to 256 printable characters")
        engine = await self._begin()
        return await engine.canceller.cancel(operation, user=user, by=f"user {user}")

    async def cleanup_operation_stream(self, operation_id: str) -> bool:
        """Delete the stream of the operation; False if it may still exist."""
        operation = parse_operation_id(str(operation_id))
        engine = await self._begin()
        try:
            async with asyncio.timeout(None if engine.is_connected else AWAY_PATIENCE_S):
                await engine.appender.remove(operation)
        except (RedisUnavailable, TimeoutError) as error:
            log.warning("stream not removed", operation=operation, error=str(error))
            return False
        return True

    # -- inside -----------------------------------------------------------------------------------

    async def _begin(self) -> Engine:
        engine = self._engine
        if engine is None or not engine.is_running:
            settings = embedded_settings(self._settings, self._redis_url)
            engine = Engine(settings, self._lost, lambda: len(self._connections))
            self._engine = engine
        await engine.begun()
        return engine

    async def _admit(self, engine: Engine, embedded: EmbeddedConnection) -> None:
        """Into the hub, or into the waiting room when Redis does not answer."""
        joined = engine.hub.join(embedded.operation, embedded.sender, embedded.ask) or (
            engine.is_connected and await self._join(engine, embedded, JOIN_PATIENCE_S)
        )
        if joined:
            self._joined(engine, embedded)
        elif not embedded.sender.closed:
            state = current_state_frame(
                embedded.operation, embedded.ask.after or ZERO, UNKNOWN_STATUS, sent=0, available=0
            )
            embedded.sender.write(Batch([state, stale_frame(embedded.operation, utc_now())]))
            embedded.joining = engine.spawn(
                self._rejoin(engine, embedded), "join when Redis is back"
            )

    async def _join(
        self, engine: Engine, embedded: EmbeddedConnection, patience_s: float | None
    ) -> bool:
        """Wait for the operation's newest entries, then join; False: not within this time."""
        try:
            async with asyncio.timeout(patience_s):
                await engine.hub.ready(embedded.operation)
        except (RedisUnavailable, TimeoutError):
            return False
        except StreamUnusable as error:
            _dismiss(embedded, close_codes.NOT_FOUND, str(error))
        except Overloaded as error:
            _dismiss(embedded, close_codes.OVERLOADED, str(error))
        if embedded.sender.closed:
            return True
        if patience_s is None:
            embedded.sender.write(Batch([live_frame(embedded.operation)]))
        return engine.hub.join(embedded.operation, embedded.sender, embedded.ask)

    async def _rejoin(self, engine: Engine, embedded: EmbeddedConnection) -> None:
        while not embedded.sender.closed:
            if await self._join(engine, embedded, None):
                self._joined(engine, embedded)
                return
            await asyncio.sleep(REJOIN_DELAY_S)

    def _joined(self, engine: Engine, embedded: EmbeddedConnection) -> None:
        if embedded.state.get("status") in engine.settings.topic.terminal_statuses:
            engine.spawn(self._finish(engine, embedded), "end of a finished operation")

    async def _finish(self, engine: Engine, embedded: EmbeddedConnection) -> None:
        """The getter says that it has ended: close when all is sent, whatever the stream says."""
        viewer = embedded.viewer
        while viewer is not None and viewer.state is not ViewerState.CLOSED:
            await asyncio.sleep(max(engine.settings.topic.terminal_grace_s, 0.05))
            if viewer.state is ViewerState.LIVE:
                viewer.owner.close(viewer, close_codes.FINISHED)

    def _say_here(self, engine: Engine, operation: OperationId, text: bytes) -> int:
        """Give an update that is in no stream to the viewers of this process."""
        frame = unstored_frame(operation, text)
        batch = Batch([frame])
        reached = engine.hub.say_unstored(operation, frame)
        for embedded in self._connections.values():
            if (
                embedded.operation == operation
                and embedded.viewer is None
                and embedded.sender.writable
            ):
                embedded.sender.write(batch)
                reached += 1
        return reached

    async def _send_to(self, embedded: EmbeddedConnection) -> None:
        try:
            await embedded.sender.run()
        finally:
            self._gone(embedded)

    def _gone(self, embedded: EmbeddedConnection) -> None:
        if self._connections.get(embedded.websocket) is embedded:
            del self._connections[embedded.websocket]
        embedded.sender.lost()
        if embedded.joining is not None:
            embedded.joining.cancel()
        embedded.slots.release(embedded.user, embedded.connection)

    def _lost(self, lost: Lost) -> None:
        """They have no right to be here any more."""
        for embedded in tuple(self._connections.values()):
            if embedded.user == lost.user or embedded.connection in lost.connections:
                listener, embedded.sender.listener = embedded.sender.listener, None
                if listener is not None:
                    listener.on_closed()
                _dismiss(embedded, lost.code, lost.code.meaning, lost.reason)


def _asked(websocket: WebSocket) -> bytes:
    """What of the application's query is meant for us."""
    query = websocket.scope.get("query_string", b"").decode("latin-1")
    ours = [pair for pair in parse_qsl(query) if pair[0] in ("last_event_id", "history")]
    return urlencode(ours).encode()


async def _take_slot(engine: Engine, embedded: EmbeddedConnection) -> Verdict:
    """One of the user's connections over all replicas; while Redis is away, of this process.

    Raises:
        RedisUnavailable: it is away, and `slots.when_redis_away` is `closed`.
    """
    if engine.is_connected:
        try:
            return await engine.slots.take(embedded.user, embedded.connection)
        except RedisUnavailable:
            pass
    if engine.settings.slots.when_redis_away == "closed":
        raise RedisUnavailable("connections cannot be counted at the moment")
    return engine.slots.take_locally(embedded.user, embedded.connection)


def _close(embedded: EmbeddedConnection, code: CloseCode) -> None:
    viewer = embedded.viewer
    if viewer is not None:
        viewer.owner.close(viewer, code)
    else:
        embedded.sender.close(code)


def _dismiss(embedded: EmbeddedConnection, code: CloseCode, text: str, name: str = "") -> None:
    refuse(embedded.sender, Refusal(code, name or code.name, text))


async def _refuse(websocket: WebSocket, code: CloseCode, text: str) -> bool:
    """Say why, close; always False."""
    frame = error_frame(code.name, text, retry=code.come_back is not ComeBack.NO)
    try:
        await send(websocket, {"type": "websocket.send", "text": frame.payload.decode()})
        await send(websocket, {"type": "websocket.close", "code": code.code, "reason": code.name})
    except OSError:
        pass  # gone before it could be told
    return False
