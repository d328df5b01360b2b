"""One RESP3 connection on which commands, their replies and the server's pushes keep the server's
own order.

That order is what the relay, the doorbell and the attach rely on, so nothing here may put a push
behind a reply or the other way round. redis-py's `read_response(push_request=True)` can do the same
in five times the CPU per push (docs/performance.md), hence a protocol of our own over
hiredis' reader. No retries, no reconnecting: see `primary`.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final, cast

import hiredis

from tidegate.core.ports import Cork
from tidegate.model.errors import RedisUnavailable
from tidegate.redis.address import Address, Node
from tidegate.redis.timer import HighResolutionTimer

OnReply = Callable[[Any], None]
OnPush = Callable[[list[Any]], None]
#: What is expected instead of a reply: a push of this kind on this channel (`_confirmation`), or
#: one of the two markers below. Markers are compared by identity, so this is not a tuple, of which
#: compiled code makes a copy whenever it is passed on.
Confirms = bytes

#: Takes the place of a confirmation: this reply belongs to `send_together`.
TOGETHER: Confirms = b"together"
#: Marks the PING after an unsubscribe; see `Link.unsubscribe`.
_FENCE: Confirms = b"fence"
#: Reading is not paused for less than this, which would not be worth two system calls.
_SHORTEST_HOLD_S = 50e-6
#: A pause counts as at most this many times the pace, so that it is forgotten soon.
_SPARSE = 4.0
#: Weight of a new round in the mean spacing of commands (an exponential moving average).
_SMOOTHING = 0.1
_Push: Final = hiredis.PushNotification
#: Pushes that take the place of a reply (RESP3 answers these commands with a push only).
_CONFIRMATIONS = frozenset({b"ssubscribe", b"sunsubscribe", b"subscribe", b"unsubscribe"})


def pack(*args: str | bytes | int) -> bytes:
    """A command in its wire form."""
    return cast("bytes", hiredis.pack_command(args))  # type: ignore[arg-type]  # its stub says 1-tuple


class Link(asyncio.Protocol):
    """A connection; `on_push` gets every push, `on_lost` is called once."""

    def __init__(
        self, on_push: OnPush, on_lost: Callable[[], None], turn: Cork, *, pace_s: float = 0.0
    ) -> None:
        """`pace_s`: see `send_together`."""
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._transport: asyncio.Transport | None = None
        self.on_push = on_push
        self._on_lost = on_lost
        self._turn = turn
        self._in_turn = False
        self._waiting: deque[tuple[OnReply, Confirms | None]] = deque()
        self._out: list[bytes] = []
        self._next: list[tuple[bytes, OnReply]] = []
        #: Replies owed to the commands that `send_together` has sent.
        self._together = 0
        #: Maximum number of commands per round; see `in_flight`.
        self.at_once = sys.maxsize
        self._pace_s = pace_s
        self._timer: HighResolutionTimer | None = None
        #: Before this time (of `perf_counter`) no round is sent.
        self._hold_until = 0.0
        self._held = False
        #: When the last round was sent, and the mean time between commands.
        self._round_at = 0.0
        self._spacing_s = _SPARSE * pace_s
        #: The same for reads while no reply is owed: relay messages of other replicas.
        self._read_at = 0.0
        self._read_spacing_s = _SPARSE * pace_s
        self._flush_scheduled = False
        #: Loop time of the last bytes received, or of the command that began to wait.
        self.alive_at = 0.0
        self._was_overdue = False
        self.lost = False
        self._aborted = False
        #: The other side has ended it, and did so while it owed a reply or in the middle of one.
        self.ended_by_peer = self.cut_off = False

    # -- commands --------------------------------------------------------------------------------

    def send(self, packed: bytes, on_reply: OnReply, confirms: Confirms | None = None) -> None:
        """Queue a packed command; it leaves with the others of this turn of the loop.

        Args:
            packed: from `pack`.
            on_reply: gets the reply, which is a `hiredis.ReplyError` when the server refused.
            confirms: for commands that are confirmed by a push: see `_confirmation`.
        """
        if self.lost:
            return
        if not self._waiting:
            self.alive_at = self._loop.time()
        self._waiting.append((on_reply, confirms))
        self._out.append(packed)
        self._flush_soon()

    def send_together(self, packed: bytes, on_reply: OnReply) -> None:
        """Queue a command that waits until the ones sent this way before are answered.

        So under load many leave in one write, and the server reads and answers once for all of
        them. Where two or more commands come in `pace_s`, a round also waits until so long after
        the one before, and between answers and round the connection is not even read: what
        arrives is handled in one go. It costs `pace_s` and a round trip at the most, and saves a
        third of the CPU per entry here and in Redis (docs/performance.md). Where fewer come,
        nothing waits. A round has `at_once` commands at the most.
        """
        if not self.lost:
            self._next.append((packed, on_reply))
            self._flush_soon()

    def subscribe(self, command: str, channel: bytes) -> None:
        """`SSUBSCRIBE` or `SUBSCRIBE`; a refusal is not told."""
        self.send(pack(command, channel), _ignore, _confirmation(command.lower().encode(), channel))

    def unsubscribe(self, command: str, channel: bytes) -> None:
        """`SUNSUBSCRIBE` or `UNSUBSCRIBE`.

        When a slot leaves at this moment, the server pushes `sunsubscribe` by itself, which looks
        like the confirmation, and then refuses the command with MOVED. That reply too many would
        shift all that follow, so a fence behind the command swallows it.
        """
        self.send(pack(command, channel), _ignore, _confirmation(command.lower().encode(), channel))
        self.send(pack("PING"), _ignore, _FENCE)

    async def call(self, *args: str | bytes | int) -> Any:
        """Send one command and wait for its reply.

        Raises:
            RedisUnavailable: the connection was lost.
            hiredis.ReplyError: the server refused.
        """
        return await self._ask(pack(*args))

    async def subscribed(self, command: str, channel: bytes) -> None:
        """`SSUBSCRIBE` or `SUBSCRIBE`, and wait for the confirmation.

        Raises: as `call`.
        """
        await self._ask(pack(command, channel), _confirmation(command.lower().encode(), channel))

    async def _ask(self, packed: bytes, confirms: Confirms | None = None) -> Any:
        reply: asyncio.Future[Any] = self._loop.create_future()

        def settle(value: Any) -> None:
            if not reply.done():
                if isinstance(value, Exception):
                    reply.set_exception(value)
                else:
                    reply.set_result(value)

        if self.lost:
            raise RedisUnavailable("the connection to Redis is lost")
        self.send(packed, settle, confirms)
        return await reply

    @property
    def is_waiting(self) -> bool:
        """Whether a reply is owed."""
        return bool(self._waiting)

    def is_overdue(self, timeout_s: float) -> bool:
        """Whether a reply is owed and nothing has arrived for `timeout_s`, in two calls in a row.

        One call is not enough: after the event loop was blocked, timers run before what has arrived
        is read.
        """
        was_overdue = self._was_overdue
        quiet_s = self._loop.time() - self.alive_at
        self._was_overdue = bool(self._waiting) and quiet_s > timeout_s
        return was_overdue and self._was_overdue

    def abort(self) -> None:
        """Drop the connection now."""
        self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def _flush_soon(self) -> None:
        if not self._in_turn and not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        if self._next and not self._together and self._may_leave():
            if not self._waiting:
                self.alive_at = self._loop.time()
            leaving = self._next[: self.at_once]
            self._together = len(leaving)
            for packed, on_reply in leaving:
                self._waiting.append((on_reply, TOGETHER))
                self._out.append(packed)
            del self._next[: self.at_once]
            if self._next:  # the next round is full already: nothing is saved by waiting for it
                self._hold_until = 0.0
        if self.lost:  # uvloop's transport raises when it is written to now
            self._out.clear()
        elif self._transport is not None and self._out:
            data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            self._transport.write(data)

    # -- the pace --------------------------------------------------------------------------------

    def _may_leave(self) -> bool:
        """Whether it is time for the next round together; if so, it begins."""
        if self._timer is None:
            return True
        now = perf_counter()
        if now < self._hold_until:
            return False
        spacing_s = min((now - self._round_at) / len(self._next), _SPARSE * self._pace_s)
        self._spacing_s += (spacing_s - self._spacing_s) * _SMOOTHING
        self._round_at = now
        self._hold_until = now + self._pace_s if 2 * self._spacing_s <= self._pace_s else 0.0
        return True

    def _pace_reading(self, messages: int) -> None:
        """Messages came while no reply was owed: above a certain rate, read every `pace_s`."""
        now = perf_counter()
        spacing_s = min((now - self._read_at) / messages, _SPARSE * self._pace_s)
        self._read_spacing_s += (spacing_s - self._read_spacing_s) * _SMOOTHING
        self._read_at = now
        if 2 * self._read_spacing_s <= self._pace_s:
            self._hold_until = now + self._pace_s

    def _hold(self, timer: HighResolutionTimer) -> None:
        """Nothing is owed: leave what comes where it is until the next round."""
        left_s = self._hold_until - perf_counter()
        if left_s < _SHORTEST_HOLD_S:
            self._hold_until = 0.0
            if self._next:
                self._flush()
            return
        transport = self._transport
        if not self._held and transport is not None and not transport.is_closing():
            self._held = True
            transport.pause_reading()
        timer.set(left_s)

    def _go_on(self) -> None:
        """Time for the next round: with what has arrived meanwhile."""
        if not self._held:
            self._flush_soon()
            return
        self._held = False
        self._hold_until = 0.0
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._next:
            # Two steps, because the loop reads between them.
            self._loop.call_soon(self._loop.call_soon, self._flush)

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one without having the base class.
        self._transport = cast("asyncio.Transport", transport)
        if self._pace_s:
            self._timer = HighResolutionTimer(self._loop, self._go_on)
        self.alive_at = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self.alive_at = self._loop.time()
        reader = self._reader
        messages = 0
        was_asked = bool(self._waiting)
        self._in_turn = True
        self._turn.begin()
        try:
            reader.feed(data)
            gets = reader.gets
            while (message := gets()) is not Ellipsis:
                messages += 1
                if type(message) is _Push:
                    self._pushed(message)
                else:
                    on_reply, confirms = self._waiting.popleft()
                    if confirms is TOGETHER:
                        self._together -= 1
                    elif confirms is _FENCE and isinstance(message, hiredis.ReplyError):
                        self._waiting.appendleft((on_reply, confirms))
                        continue
                    on_reply(message)
        except (hiredis.ProtocolError, IndexError):
            self.abort()  # what follows cannot be told apart any more
        finally:
            self._in_turn = False
            if self._out or self._next:
                self._flush()
            self._turn.end()
        if self._timer is not None and not self._waiting and not self.lost:
            if not self._hold_until and messages and not was_asked:
                self._pace_reading(messages)
            if self._hold_until:
                self._hold(self._timer)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True
        self.ended_by_peer = not self._aborted
        self.cut_off = self.ended_by_peer and (bool(self._waiting) or self._reader.has_data())
        if self._timer is not None:
            self._timer.close()
        waiting, self._waiting = self._waiting, deque()
        gone = RedisUnavailable("the connection to Redis is lost")
        unsent, self._next = self._next, []
        for on_reply, _ in waiting:
            on_reply(gone)
        for _, on_reply in unsent:
            on_reply(gone)
        self._on_lost()

    def _pushed(self, push: list[Any]) -> None:
        waiting = self._waiting
        kind = push[0]
        if kind in _CONFIRMATIONS and waiting and waiting[0][1] == _confirmation(kind, push[1]):
            waiting.popleft()[0](push)
        else:
            self.on_push(push)


def _confirmation(kind: bytes, channel: bytes) -> Confirms:
    """The push that takes the place of a reply; kinds contain no spaces."""
    return kind + b" " + channel


def _ignore(_reply: Any) -> None:
    """A reply that nothing depends on."""


async def connect(
    node: Node,
    address: Address,
    on_push: OnPush,
    on_lost: Callable[[], None],
    turn: Cork,
    *,
    pace_s: float = 0.0,
) -> tuple[Link, dict[bytes, Any]]:
    """Open a link and log in. Returns it with the server's answer to `HELLO 3`.

    Raises:
        OSError: cannot be reached.
        hiredis.ReplyError: refused to log in.
    """
    loop = asyncio.get_running_loop()

    def protocol() -> Link:
        return Link(on_push, on_lost, turn, pace_s=pace_s)

    if node.path is not None:
        _, link = await loop.create_unix_connection(protocol, node.path)
    else:
        hostname = node.host if address.tls is not None else None
        _, link = await loop.create_connection(
            protocol, node.host, node.port, ssl=address.tls, server_hostname=hostname
        )
    try:
        hello = ["HELLO", "3"]
        if address.password is not None:
            hello += ["AUTH", address.username or "default", address.password]
        greeting = await link.call(*hello)
        if address.db:
            await link.call("SELECT", address.db)
    except BaseException:
        link.abort()
        raise
    if isinstance(greeting, list):  # a map under some hiredis versions, a flat list under others
        greeting = dict(zip(greeting[::2], greeting[1::2], strict=False))
    return link, greeting
