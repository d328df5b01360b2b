"""Who is let in, how many of one user, and for how long: the gate, the slots and the clock of a
token, per connection.

    knocking --origin, token--> known --slot--> inside --expiry, revoked, replaced, over the
    limit--> closed

`Admission` is one per replica and knows the guests by user; a `Guest` is one connection's right to
be here. With `server.auth` none nobody is counted and nothing expires; only the origin is looked
at.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from tidegate.core.expiry import Expiry, ExpiryState
from tidegate.core.ports import Sender
from tidegate.core.revocation import Revocations
from tidegate.core.slots import Full, Replaced, SlotKeeper, Victim, new_connection_id
from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.model.frames import control_frame, error_frame
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.access.authenticator import Gate, Visitor
from tidegate.web.access.limits import Connection, Door
from tidegate.web.access.renewal import Renewal, Spawn
from tidegate.web.auth.host import HostRules
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.problem import Refusal, Refused, Unauthenticated, refusal_of, refuse
from tidegate.web.request import Head

#: A timer is set no further ahead, so that a clock that was set is noticed.
LOOK_AGAIN_S = 3600.0


class ConnectionLimit(Refused):
    """The user has as many connections as are allowed; 4429.

    The details are the count and the limit.
    """

    def __init__(self, count: int, limit: int) -> None:
        super().__init__(
            "connection_limit",
            f"{count} of {limit} connections are open; close one of them",
            close_codes.CONNECTION_LIMIT,
            retry=True,
        )
        self.details = {"count": count, "limit": limit}


class TokenRevoked(Unauthenticated):
    """The token was taken back before its end; 4401."""

    def __init__(self) -> None:
        super().__init__("token_revoked", "the token was revoked; sign in again")


class Socket(Sender, Connection, Protocol):
    """A connection that a guest has: any kind."""

    #: No more can be sent: closed by us, or gone.
    closed: bool


class _Refresh(msgspec.Struct):
    token: str


_decode_refresh = msgspec.json.Decoder(_Refresh).decode


class Guest:
    """One connection, from the knock on."""

    __slots__ = (
        "_admission",
        "connection",
        "expiry",
        "note",
        "on_denied",
        "operations",
        "renewal",
        "sender",
        "timer",
        "visitor",
    )

    def __init__(self, admission: Admission, sender: Socket) -> None:
        self._admission = admission
        self.sender = sender
        self.connection = ""
        self.visitor = Visitor(ANONYMOUS, None)
        self.expiry: Expiry | None = None
        self.timer: asyncio.TimerHandle | None = None
        #: What the viewer is told about its admission in `current_state`.
        self.note: Mapping[str, Any] = {}
        #: What it was allowed to watch and still does; asked again when its token is renewed.
        self.operations: set[OperationId] = set()
        #: Its new tokens, once there was one.
        self.renewal: Renewal | None = None
        #: Gets what it may no longer watch. Without one the connection is closed.
        self.on_denied: Callable[[OperationId, Refused], None] | None = None

    async def enter(self, head: Head, *, counted: bool = True) -> None:
        """Know the user and take a slot, unless it is not `counted`: answered at once, and gone.

        Raises:
            Refused: and with which code to close.
            RedisUnavailable: no slot can be had, and the policy is `closed`.
        """
        await self._admission.admit(self, head, counted=counted)

    def in_time(self) -> asyncio.Timeout:
        """`async with` it until the first frame; TimeoutError then means `too_late`."""
        return self._admission.in_time()

    def too_late(self) -> Refusal:
        """What it is told when its first frame did not come in time."""
        return self._admission.too_late()

    def start_clock(self) -> None:
        """It has its first frames: from now on it is told, and closed, when its token ends."""
        self._admission.watch_the_clock(self)

    async def authorise(self, operation: OperationId) -> Mapping[str, Any]:
        """Whether this operation may be watched, and what is known of its state. Raises Refused."""
        known = await self._admission.authorise(self, operation)
        self.operations.add(operation)
        return known

    def check(self) -> None:
        """Whether it may still be answered, now that what it asked for is known.

        Raises:
            Refused: its token was revoked or has ended meanwhile.
        """
        self._admission.check(self)

    def unwatched(self, operation: OperationId) -> None:
        """It is watched no longer, so nothing has to be asked about it again."""
        self.operations.discard(operation)

    def refusal(self, error: TidegateError) -> Refusal:
        """See `Admission.refusal`."""
        return self._admission.refusal(error)

    @property
    def is_free(self) -> bool:
        """Nothing has to be asked before it watches an operation."""
        return self._admission.is_open

    @property
    def reads_as(self) -> str:
        """By whom its reading is shared fairly: all connections of a user are one, each anonymous
        connection is one.
        """
        if self.is_anonymous:
            return f"connection {id(self.sender):x}"
        return f"user {self.visitor.identity.user}"

    @property
    def is_anonymous(self) -> bool:
        """Nobody is known here."""
        return self.visitor.identity is ANONYMOUS

    def on_refresh(self, text: str) -> None:
        """A `refresh` message: a new token for the same user."""
        self._admission.refresh(self, text)


class Admission:
    """All guests of this replica."""

    def __init__(
        self, gate: Gate, slots: SlotKeeper, door: Door, settings: Settings, spawn: Spawn
    ) -> None:
        self._gate = gate
        self._slots = slots
        self._door = door
        self._settings = settings
        self._hosts = HostRules(settings.server)
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._by_user: dict[str, dict[str, Guest]] = {}
        #: What this replica knows to be revoked; whoever tells it so calls `revoked`.
        self.revocations = Revocations()
        #: Tells other replicas of connections that lost their slots.
        self.on_victims: Callable[[tuple[Victim, ...]], None] = lambda _: None
        #: Everybody may watch everything: nothing is asked per operation.
        self.is_open = settings.server.auth == "none" and settings.source.kind in (None, "none")
        self.refusals: Counter[str] = Counter()

    # -- for guests ------------------------------------------------------------------------------

    async def admit(self, guest: Guest, head: Head, *, counted: bool) -> None:
        """See `Guest.enter`."""
        try:
            self._hosts.check(head.headers)
            guest.visitor = await self._gate.authenticate(
                head.headers, head.subprotocols, head.query
            )
            identity = guest.visitor.identity
            self._check_revoked(identity)
            if counted and identity is not ANONYMOUS:
                await self._take_slot(guest)
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise
        if counted and identity is not ANONYMOUS:
            guest.expiry = Expiry(identity.user, identity.expires_at)

    async def authorise(self, guest: Guest, operation: OperationId) -> Mapping[str, Any]:
        """See `Guest.authorise`."""
        try:
            allowed = await self._gate.authorise(guest.visitor, operation)
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise
        self.check(guest)  # much may have happened while the source was asked
        return {**(allowed.state or {}), **guest.note}

    def check(self, guest: Guest) -> None:
        """See `Guest.check`; counted."""
        identity = guest.visitor.identity
        try:
            self._check_revoked(identity)
            if identity.expires_at is not None and identity.expires_at <= time.time():
                raise Unauthenticated("token_expired", "the token has expired")
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise

    def in_time(self) -> asyncio.Timeout:
        """See `Guest.in_time`."""
        return asyncio.timeout(self._settings.replica.first_frame_timeout_s)

    def too_late(self) -> Refusal:
        """See `Guest.too_late`; counted."""
        self.refusals["first_frame_time"] += 1
        message = "admission timed out; retry, or try another replica"
        return Refusal(close_codes.OVERLOADED, "first_frame_time", message)

    def refresh(self, guest: Guest, text: str) -> None:
        """See `Guest.on_refresh`."""
        try:
            token = _decode_refresh(text).token
        except (msgspec.MsgspecError, ValueError):
            _tell(guest, error_frame("bad_message", 'refresh needs a "token"', retry=False))
            return
        if guest.expiry is None:
            code, message = "refresh_refused", "the connection is not admitted yet"
            if not self._gate.uses_tokens:
                code, message = "no_tokens", "this gateway does not use tokens"
            _tell(guest, error_frame(code, message, retry=False))
            return
        if guest.sender.closed:
            return
        if guest.renewal is None:
            text = "superseded by a newer token"
            overtaken = error_frame("refresh_overtaken", text, retry=False)
            guest.renewal = Renewal(
                lambda token: self._renew(guest, token),
                lambda: _tell(guest, overtaken),
                self._spawn,
            )
        guest.renewal.ask(token)

    def watch_the_clock(self, guest: Guest) -> None:
        """See `Guest.start_clock`."""
        if guest.timer is not None:
            guest.timer.cancel()
            guest.timer = None
        expiry = guest.expiry
        if expiry is None or guest.sender.closed:
            return
        now = time.time()
        match expiry.step(now):
            case ExpiryState.ENDED:
                _close(guest, close_codes.UNAUTHENTICATED, "token_expired", "the token has expired")
                return
            case ExpiryState.WARNED:
                left_s = round(expiry.left_s(now) or 0.0, 1)
                _tell(guest, control_frame("expiring", None, {"in_s": left_s}))
        if expiry.due is not None:
            delay = min(max(0.0, expiry.due - now), LOOK_AGAIN_S)
            guest.timer = self._loop.call_later(delay, self.watch_the_clock, guest)

    def refusal(self, error: TidegateError) -> Refusal:
        """What the viewer is told of an error, counted. Raises it again when it is not for them."""
        row = refusal_of(error)
        if not isinstance(error, Refused):  # those were counted when they were raised
            self.refusals[row.code] += 1
        return row

    # -- for the replica -------------------------------------------------------------------------

    def over_limit(self, user: str, connections: Iterable[str]) -> None:
        """These have no slot any more: this pod had lapsed, and others took them (4429)."""
        self._close_some(user, connections, close_codes.CONNECTION_LIMIT, "connection_limit")

    def replaced(self, connections: Iterable[str]) -> None:
        """These lost their slots to newer connections (4409)."""
        wanted = set(connections)
        for user, guests in tuple(self._by_user.items()):
            self._close_some(user, wanted & guests.keys(), close_codes.REPLACED, "replaced")

    def disconnect(self, user: str, reason: str) -> int:
        """Close all connections of a user here; returns how many."""
        connections = tuple(self._by_user.get(user, ()))
        self._close_some(user, connections, close_codes.FORBIDDEN, reason or "disconnected")
        return len(connections)

    def revoked(self, user: str | None = None) -> None:
        """Close the connections of this user, or of all, whose token is revoked (4401)."""
        users = tuple(self._by_user) if user is None else (user,)
        for name in users:
            for guest in tuple(self._by_user.get(name, {}).values()):
                try:
                    self._check_revoked(guest.visitor.identity)
                except TokenRevoked as refused:
                    _close(guest, refused.close, refused.code, str(refused))

    def __len__(self) -> int:
        return sum(len(guests) for guests in self._by_user.values())

    # -- inside ----------------------------------------------------------------------------------

    def _check_revoked(self, identity: Identity) -> None:
        if self.revocations.cover(identity.user, identity.token_id, identity.issued_at_s):
            raise TokenRevoked

    async def _take_slot(self, guest: Guest) -> None:
        user, limit = guest.visitor.identity.user, guest.visitor.identity.limit
        connection = new_connection_id()
        try:
            verdict = await self._slots.take(user, connection, limit)
        except RedisUnavailable:
            if self._settings.slots.when_redis_away == "closed":
                raise
            verdict = self._slots.take_locally(user, connection, limit)
            guest.note = {"connection_limit": "this replica only"}
        if isinstance(verdict, Full):
            raise ConnectionLimit(verdict.count, verdict.limit)
        if guest.sender.closed:
            self._slots.release(user, connection)
            return
        try:
            self._check_revoked(guest.visitor.identity)  # it may have come meanwhile
        except TokenRevoked:
            self._slots.release(user, connection)
            raise
        guest.connection = connection
        self._by_user.setdefault(user, {})[connection] = guest
        self._door.when_gone(guest.sender, lambda: self._gone(guest))
        if isinstance(verdict, Replaced):
            self.replaced(victim.connection for victim in verdict.victims)
            self.on_victims(verdict.victims)

    def _gone(self, guest: Guest) -> None:
        if guest.timer is not None:
            guest.timer.cancel()
        if guest.renewal is not None:
            guest.renewal.end()
        user = guest.visitor.identity.user
        guests = self._by_user.get(user, {})
        if guests.pop(guest.connection, None) is not None:
            self._slots.release(user, guest.connection)
            if not guests:
                del self._by_user[user]

    def _close_some(
        self, user: str, connections: Iterable[str], code: CloseCode, name: str
    ) -> None:
        guests = self._by_user.get(user, {})
        for connection in tuple(connections):
            guest = guests.get(connection)
            if guest is not None:
                _close(guest, code, name, code.meaning)

    async def _renew(self, guest: Guest, token: str) -> None:
        try:
            if not await self._take_token(guest, token):
                return
        except Refused as refused:
            _tell(guest, error_frame(refused.code, str(refused), retry=refused.retry))
            return
        for operation in tuple(guest.operations):
            if guest.sender.closed or (guest.renewal is not None and guest.renewal.is_overtaken):
                return
            try:
                await self.authorise(guest, operation)
            except Refused as refused:
                if refused.retry:
                    continue  # it cannot be told now: the last answer holds
                if operation not in guest.operations:
                    continue  # no longer watched
                guest.unwatched(operation)
                if guest.on_denied is not None:
                    guest.on_denied(operation, refused)
                else:
                    _close(guest, refused.close, refused.code, str(refused))

    async def _take_token(self, guest: Guest, text: str) -> bool:
        """Whether this token says something new; the viewer is told what became of it.

        Raises:
            Refused: it is not a good one, or not for this connection.
        """
        held = guest.visitor.token
        if held is not None and held.text == text:  # so nobody has to be asked
            _tell(guest, control_frame("refreshed", None, {}))
            return False
        visitor = await self._gate.renew(text)
        self._check_revoked(visitor.identity)
        identity = visitor.identity
        if guest.expiry is None or not guest.expiry.renew(identity.user, identity.expires_at):
            message = "the token must be of the same user, and in time"
            raise Refused("refresh_refused", message, close_codes.UNAUTHENTICATED)
        is_new = held is None or visitor.token is None or not held.says_the_same(visitor.token)
        guest.visitor = visitor
        _tell(guest, control_frame("refreshed", None, {}))
        self.watch_the_clock(guest)
        return is_new


def _tell(guest: Guest, wire: bytes) -> None:
    if guest.sender.writable:
        guest.sender.write(wire)


def _close(guest: Guest, code: CloseCode, name: str, message: str) -> None:
    sender = guest.sender
    listener, sender.listener = sender.listener, None
    if listener is not None:
        listener.on_closed()
    refuse(sender, Refusal(code, name, message))
