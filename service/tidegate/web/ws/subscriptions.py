"""The operations of one multiplexed socket: a `Subscription` each, which is its viewer's `Sender`.

    ENTERING --followed--> JOINED --ended, or `unwatch`--> ENDED
       ^   \\--socket full--> QUEUED --room--> ENTERING or JOINED
       +-- not followed yet

Each has its own cursor and its own end, and does not affect the others. When the buffer of the
socket is full, all of them are paused and only their cursors are kept. When it has room they resume
a few at a time, so that a slow socket does not cause pages of all its operations to be read at once
and then dropped.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable

import msgspec

from tidegate.core.connection_record import ConnectionRecord, Stage
from tidegate.core.ports import Sender, SenderListener, SubscriptionService
from tidegate.core.records import Ask
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import InvalidInput, TidegateError
from tidegate.model.frames import error_frame, unwatched_frame
from tidegate.model.ids import OPERATION_ID_MAX_LENGTH, OperationId, parse_operation_id
from tidegate.model.settings import ViewerSettings
from tidegate.web.access.cancels import CancelService
from tidegate.web.access.sessions import AuthorizedConnection
from tidegate.web.problem import Refusal, Refused
from tidegate.web.request import make_ask
from tidegate.web.ws.cancelling import CancelMessages
from tidegate.web.ws.outbox import Outbox, drop
from tidegate.web.ws.session import Session, read_ack

#: So many come back at a time, this often, while the socket has room.
RESUMED_AT_ONCE = 8
RESUME_EVERY_S = 0.01

#: Closes that mean the connection and not one operation.
OF_THE_SOCKET = frozenset(
    {
        close_codes.DRAINING,
        close_codes.UNAUTHENTICATED,
        close_codes.SLOW,
        close_codes.REPLACED,
        close_codes.CONNECTION_LIMIT,
    }
)
#: What the last frame of a watch says when the viewer asked for its end.
UNWATCH = "unwatch"


class _WatchMessage(msgspec.Struct):
    operation: str
    last_event_id: str | None = None
    history: int | str | None = None
    acks: bool = False


class _UnwatchMessage(msgspec.Struct):
    operation: str


_decode_watch = msgspec.json.Decoder(_WatchMessage).decode
_decode_unwatch = msgspec.json.Decoder(_UnwatchMessage).decode


class WatchState(enum.Enum):
    """See the table in the module's docstring."""

    ENTERING = "entering"
    QUEUED = "queued"
    JOINED = "joined"
    ENDED = "ended"


class Subscription:
    """One operation on the socket."""

    __slots__ = (
        "_watches",
        "allowed",
        "ask",
        "entering",
        "listener",
        "operation",
        "record",
        "state",
        "writable",
        "write",
    )

    def __init__(self, watches: Subscriptions, operation: OperationId, ask: Ask) -> None:
        self._watches = watches
        self.operation = operation
        self.ask = ask
        self.state = WatchState.QUEUED
        #: The operation source has said yes.
        self.allowed = watches.is_open
        self.entering: asyncio.Task[None] | None = None
        self.listener: SenderListener | None = None
        self.record = watches.visit_of(operation)
        self.writable = False
        self.write: Callable[[Batch], None] = watches.outbox.write

    def close(self, code: CloseCode, reason: str = "") -> None:
        """This operation is over for the viewer, or with it the whole socket."""
        self._watches.closed(self, code, reason)


class Subscriptions:
    """All of one socket. `gone` is set when the socket is."""

    def __init__(
        self,
        subscriptions: SubscriptionService,
        settings: ViewerSettings,
        sender: Sender,
        tasks: asyncio.TaskGroup,
        authorized: AuthorizedConnection,
        cancels: CancelService,
    ) -> None:
        self._subscriptions = subscriptions
        self._authorized = authorized
        authorized.on_denied = self._denied
        #: The viewer is known and has its slot; what it asks for before that waits.
        self._admitted = False
        self._settings = settings
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._by_operation: dict[str, Subscription] = {}
        #: Those that wait for room in the socket: to join, or to go on.
        self._waiting: deque[Subscription] = deque()
        self._resuming: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        self._record = sender.record
        self.outbox = Outbox(sender)
        self.outbox.listener = self
        self._cancels = CancelMessages(cancels, authorized, self.outbox)
        # A viewer that comes back names all its operations at once.
        allowed = settings.messages_per_s + settings.max_watches
        handlers = {
            "watch": self._watch,
            "unwatch": self._unwatch,
            "ack": self._ack,
            "cancel": self._cancels.on_text,
            "refresh": authorized.on_refresh,
        }
        self.on_text = Session(self.outbox, allowed, handlers).on_text

    def __len__(self) -> int:
        return len(self._by_operation)

    @property
    def is_open(self) -> bool:
        """Everyone may watch everything."""
        return self._authorized.is_free

    def visit_of(self, operation: OperationId) -> ConnectionRecord:
        """What is told of the part that this operation is."""
        return self._record.fork(operation, self._loop.time())

    # -- what the viewer says --------------------------------------------------------------------

    def _watch(self, text: str) -> None:
        try:
            message = _decode_watch(text)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            self._complain("bad_message", f"watch: {error}")
            return
        name = message.operation
        try:
            operation = parse_operation_id(name)
            history = "" if message.history is None else str(message.history)
            ask = make_ask(message.last_event_id or "", history, self._settings)
            ask = ask._replace(acks=message.acks)
        except InvalidInput as error:
            self._complain("bad_request", str(error), name)
            return
        if operation in self._by_operation:
            self._complain("already_watched", "unwatch it first", name)
        elif len(self._by_operation) >= self._settings.max_watches:
            limit = self._settings.max_watches
            self._complain("too_many_watches", f"at most {limit} on one socket", name)
        else:
            watch = Subscription(self, operation, ask)
            self._by_operation[operation] = watch
            self._waiting.append(watch)
            if self._resuming is None and self._admitted:
                self._go_on()

    def _unwatch(self, text: str) -> None:
        try:
            name = _decode_unwatch(text).operation
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            self._complain("bad_message", f"unwatch: {error}")
            return
        watch = self._by_operation.get(name)
        if watch is None:
            self._complain("not_watched", "it is not watched on this socket", name)
        else:
            self._end(watch, close_codes.FINISHED.code, UNWATCH)

    def _ack(self, text: str) -> None:
        try:
            entry_id, name = read_ack(text)
        except InvalidInput as error:
            self._complain("bad_message", str(error))
            return
        watch = self._by_operation.get(name or "")
        self._subscriptions.acked(self.outbox if watch is None else watch, entry_id)

    def _complain(self, code: str, message: str, operation: str | None = None) -> None:
        named = None if operation is None else OperationId(operation[:OPERATION_ID_MAX_LENGTH])
        self.outbox.answer(error_frame(code, message, retry=False, operation=named))

    def admit(self) -> None:
        """The viewer may stay: what it has asked for begins."""
        self._admitted = True
        self._cancels.admitted()
        self._go_on()

    def _denied(self, operation: OperationId, refused: Refused) -> None:
        watch = self._by_operation.get(operation)
        if watch is not None:
            self._refuse(watch, self._authorized.refusal(refused))

    # -- joining ---------------------------------------------------------------------------------

    def _join(self, watch: Subscription) -> None:
        watch.state = WatchState.JOINED  # the join may already fill the buffer
        watch.ask = watch.ask._replace(by=self._authorized.reads_as)
        if not watch.allowed or not self._subscriptions.join(watch.operation, watch, watch.ask):
            watch.state = WatchState.ENTERING
            watch.writable = False
            watch.entering = self._tasks.create_task(self._enter(watch), name="watch-enter")

    async def _enter(self, watch: Subscription) -> None:
        watch.record.enter(Stage.JOIN)
        try:
            if not watch.allowed:
                state = await self._authorized.authorise(watch.operation)
                watch.ask = watch.ask._replace(state=state)
                watch.allowed = True
            await self._subscriptions.ready(watch.operation)
        except TidegateError as error:
            self._refuse(watch, self._authorized.refusal(error))
            return
        finally:
            watch.entering = None
        if watch.state is WatchState.ENTERING:
            watch.state = WatchState.QUEUED
            self._waiting.append(watch)
            if self._resuming is None:
                self._go_on()

    def _refuse(self, watch: Subscription, refusal: Refusal) -> None:
        if watch.state is not WatchState.ENDED:
            self.outbox.answer(
                error_frame(
                    refusal.code, refusal.message, retry=refusal.retry, operation=watch.operation
                )
            )
            watch.close(refusal.close)

    # -- ends ------------------------------------------------------------------------------------

    def closed(self, watch: Subscription, code: CloseCode, reason: str) -> None:
        """The gateway has ended this watch."""
        if watch.state is WatchState.ENDED:
            return
        if code in OF_THE_SOCKET:
            self.outbox.close(code, reason)
        else:
            self._end(watch, code.code, code.name)

    def _end(self, watch: Subscription, code: int, name: str) -> None:
        del self._by_operation[watch.operation]
        self._let_go(watch)
        self.outbox.answer(unwatched_frame(watch.operation, code, name))

    def _let_go(self, watch: Subscription) -> None:
        watch.state = WatchState.ENDED
        watch.writable = False
        watch.write = drop
        self._authorized.unwatched(watch.operation)
        if watch.entering is not None:
            watch.entering.cancel()
        listener, watch.listener = watch.listener, None
        if listener is not None:
            listener.on_closed()
        self._record.join(watch.record)

    # -- SenderListener, called by the outbox ----------------------------------------------------

    def on_paused(self) -> None:
        for watch in tuple(self._by_operation.values()):
            if watch.state is WatchState.JOINED and watch.writable:
                watch.writable = False
                self._waiting.append(watch)
                if watch.listener is not None:
                    watch.listener.on_paused()

    def on_resumed(self) -> None:
        if self._resuming is None:
            self._go_on()

    def on_closed(self) -> None:
        if self._resuming is not None:
            self._resuming.cancel()
        for watch in tuple(self._by_operation.values()):
            self._let_go(watch)
        self._by_operation.clear()
        self._waiting.clear()
        self.gone.set()

    def _go_on(self) -> None:
        """Let the next of those who wait write, as long as there is room."""
        self._resuming = None
        left = RESUMED_AT_ONCE
        while self._waiting and left and self.outbox.writable:
            watch = self._waiting.popleft()
            if watch.state is WatchState.ENDED:
                continue
            left -= 1
            watch.writable = True
            if watch.state is WatchState.QUEUED:
                self._join(watch)
            elif watch.listener is not None:
                watch.listener.on_resumed()
        if self._waiting and self.outbox.writable:
            self._resuming = self._loop.call_later(RESUME_EVERY_S, self._go_on)
