"""Admission of connections: authentication, the slots of each user, and the expiry of tokens.

    connecting --origin, token--> authenticated --slot--> admitted --expired, revoked, replaced,
    over the limit--> closed

There is one `Admission` per replica, which knows the connections of each user; an
`AuthorizedConnection` is what one connection is allowed to do. If `server.auth` is `none`,
connections are not counted and do not expire; only the origin is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from tidegate.core.expiry import Expiry, ExpiryState
from tidegate.core.ports import Sender
from tidegate.core.revocation import Revocations
from tidegate.core.slots import Full, Replaced, SlotKeeper, Victim, new_connection_id
from tidegate.model import close_codes
from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import RedisUnavailable, TidegateError
from tidegate.model.frames import Frame, error_frame, expiring_frame, refreshed_frame
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.web.access.authenticator import NOBODY, Authenticator
from tidegate.web.access.limits import Connection, ConnectionLimiter
from tidegate.web.access.renewal import Renewal, Spawn
from tidegate.web.auth.host import HostRules
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.auth.sources import Allowed
from tidegate.web.problem import Refusal, Refused, Unauthenticated, refusal_of, refuse
from tidegate.web.request import RequestHead

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
        super().__init__("token_revoked", "the token was revoked; authenticate again")


class Socket(Sender, Connection, Protocol):
    """The connection itself: any kind."""

    #: No more can be sent: closed by us, or gone.
    closed: bool


class _Refresh(msgspec.Struct):
    token: str


_decode_refresh = msgspec.json.Decoder(_Refresh).decode


NO_NOTE: Mapping[str, Any] = MappingProxyType({})
NOTHING: Set[OperationId] = frozenset()


class AuthorizedConnection:
    """One connection, from its request on."""

    __slots__ = (
        "_admission",
        "connection",
        "expiry",
        "note",
        "on_denied",
        "operations",
        "principal",
        "renewal",
        "sender",
        "timer",
    )

    def __init__(self, admission: Admission, sender: Socket) -> None:
        self._admission = admission
        self.sender = sender
        self.connection = ""
        self.principal = NOBODY
        self.expiry: Expiry | None = None
        self.timer: asyncio.TimerHandle | None = None
        #: What the viewer is told about its admission in `current_state`.
        self.note: Mapping[str, Any] = NO_NOTE
        #: What it was allowed to watch and still does; asked again when its token is renewed.
        self.operations: Set[OperationId] = NOTHING
        #: Its new tokens, once there was one.
        self.renewal: Renewal | None = None
        #: Gets what it may no longer watch. Without one the connection is closed.
        self.on_denied: Callable[[OperationId, Refused], None] | None = None

    async def enter(self, head: RequestHead, *, counted: bool = True) -> None:
        """Know the user and take a slot, unless it is not `counted`: answered at once, and gone.

        Raises:
            Refused: and with which code to close.
            RedisUnavailable: no slot can be had, and the policy is `closed`.
        """
        await self._admission.admit(self, head, counted=counted)

    def enter_freely(self, head: RequestHead) -> None:
        """As `enter`, without waiting, if no authentication is required (`Admission.is_open`).

        Raises:
            Refused: host or origin is not allowed, or all anonymous connections are revoked.
        """
        self._admission.admit_freely(self, head)

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
        if isinstance(self.operations, set):
            self.operations.add(operation)
        else:
            self.operations = {operation}
        return known

    async def allowed(self, operation: OperationId) -> Allowed:
        """The same for one request about it: what the source answers. Raises Refused."""
        return await self._admission.allowed(self, operation)

    def check(self) -> None:
        """Whether it may still be answered, now that what it asked for is known.

        Raises:
            Refused: its token was revoked or has ended meanwhile.
        """
        self._admission.check(self)

    def unwatched(self, operation: OperationId) -> None:
        """It is watched no longer, so nothing has to be asked about it again."""
        if isinstance(self.operations, set):
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
        return f"user {self.principal.identity.user}"

    @property
    def is_anonymous(self) -> bool:
        """Nobody is known here."""
        return self.principal.identity is ANONYMOUS

    def on_refresh(self, text: str) -> None:
        """A `refresh` message: a new token for the same user."""
        self._admission.refresh(self, text)


class Admission:
    """All authorized connections of this replica."""

    def __init__(
        self,
        authenticator: Authenticator,
        slots: SlotKeeper,
        limiter: ConnectionLimiter,
        settings: Settings,
        spawn: Spawn,
    ) -> None:
        self._authenticator = authenticator
        self._slots = slots
        self._limiter = limiter
        self._settings = settings
        self._hosts = HostRules(settings.server)
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._by_user: dict[str, dict[str, AuthorizedConnection]] = {}
        #: What this replica knows to be revoked; whoever tells it so calls `revoked`.
        self.revocations = Revocations()
        #: Tells other replicas of connections that lost their slots.
        self.on_victims: Callable[[tuple[Victim, ...]], None] = lambda _: None
        #: Everyone may watch everything: nothing is asked per operation.
        self.is_open = settings.server.auth == "none" and settings.source.kind in (None, "none")
        self.refusals: Counter[str] = Counter()

    # -- for connections -------------------------------------------------------------------------

    async def admit(
        self, authorized: AuthorizedConnection, head: RequestHead, *, counted: bool
    ) -> None:
        """See `AuthorizedConnection.enter`."""
        try:
            self._hosts.check(head.headers)
            authorized.principal = await self._authenticator.authenticate(
                head.headers, head.subprotocols, head.query
            )
            identity = authorized.principal.identity
            self._check_revoked(identity)
            if counted and identity is not ANONYMOUS:
                await self._take_slot(authorized)
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise
        if counted and identity is not ANONYMOUS:
            authorized.expiry = Expiry(identity.user, identity.expires_at)

    def admit_freely(self, authorized: AuthorizedConnection, head: RequestHead) -> None:
        """See `AuthorizedConnection.enter_freely`."""
        try:
            self._hosts.check(head.headers)
            authorized.principal = self._authenticator.anonymous(head.headers)
            self._check_revoked(ANONYMOUS)
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise

    async def authorise(
        self, authorized: AuthorizedConnection, operation: OperationId
    ) -> Mapping[str, Any]:
        """See `AuthorizedConnection.authorise`."""
        allowed = await self.allowed(authorized, operation)
        return {**(allowed.state or {}), **authorized.note}

    async def allowed(self, authorized: AuthorizedConnection, operation: OperationId) -> Allowed:
        """See `AuthorizedConnection.allowed`."""
        try:
            allowed = await self._authenticator.authorise(authorized.principal, operation)
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise
        self.check(authorized)  # much may have happened while the source was asked
        return allowed

    def check(self, authorized: AuthorizedConnection) -> None:
        """See `AuthorizedConnection.check`; counted."""
        identity = authorized.principal.identity
        try:
            self._check_revoked(identity)
            if identity.expires_at is not None and identity.expires_at <= time.time():
                raise Unauthenticated("token_expired", "the token has expired")
        except Refused as refused:
            self.refusals[refused.code] += 1
            raise

    def in_time(self) -> asyncio.Timeout:
        """See `AuthorizedConnection.in_time`."""
        return asyncio.timeout(self._settings.replica.first_frame_timeout_s)

    def too_late(self) -> Refusal:
        """See `AuthorizedConnection.too_late`; counted."""
        self.refusals["first_frame_time"] += 1
        message = "admission timed out; retry, or try another replica"
        return Refusal(close_codes.OVERLOADED, "first_frame_time", message)

    def refresh(self, authorized: AuthorizedConnection, text: str) -> None:
        """See `AuthorizedConnection.on_refresh`."""
        try:
            token = _decode_refresh(text).token
        except (msgspec.MsgspecError, ValueError):
            _tell(authorized, error_frame("bad_message", 'refresh needs a "token"', retry=False))
            return
        if authorized.expiry is None:
            code, message = "refresh_refused", "the connection is not admitted yet"
            if not self._authenticator.uses_tokens:
                code, message = "no_tokens", "this gateway does not use tokens"
            _tell(authorized, error_frame(code, message, retry=False))
            return
        if authorized.sender.closed:
            return
        if authorized.renewal is None:
            text = "superseded by a newer token"
            overtaken = error_frame("refresh_overtaken", text, retry=False)
            authorized.renewal = Renewal(
                lambda token: self._renew(authorized, token),
                lambda: _tell(authorized, overtaken),
                self._spawn,
            )
        authorized.renewal.ask(token)

    def watch_the_clock(self, authorized: AuthorizedConnection) -> None:
        """See `AuthorizedConnection.start_clock`."""
        if authorized.timer is not None:
            authorized.timer.cancel()
            authorized.timer = None
        expiry = authorized.expiry
        if expiry is None or authorized.sender.closed:
            return
        now = time.time()
        match expiry.step(now):
            case ExpiryState.ENDED:
                _close(
                    authorized,
                    close_codes.UNAUTHENTICATED,
                    "token_expired",
                    "the token has expired",
                )
                return
            case ExpiryState.WARNED:
                left_s = round(expiry.left_s(now) or 0.0, 1)
                _tell(authorized, expiring_frame(left_s))
        if expiry.due is not None:
            delay = min(max(0.0, expiry.due - now), LOOK_AGAIN_S)
            authorized.timer = self._loop.call_later(delay, self.watch_the_clock, authorized)

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
        for user, connections in tuple(self._by_user.items()):
            self._close_some(user, wanted & connections.keys(), close_codes.REPLACED, "replaced")

    def disconnect(self, user: str, reason: str) -> int:
        """Close all connections of a user here; returns how many."""
        connections = tuple(self._by_user.get(user, ()))
        self._close_some(user, connections, close_codes.FORBIDDEN, reason or "disconnected")
        return len(connections)

    def revoked(self, user: str | None = None) -> None:
        """Close the connections of this user, or of all, whose token is revoked (4401)."""
        users = tuple(self._by_user) if user is None else (user,)
        for name in users:
            for authorized in tuple(self._by_user.get(name, {}).values()):
                try:
                    self._check_revoked(authorized.principal.identity)
                except TokenRevoked as refused:
                    _close(authorized, refused.close, refused.code, str(refused))

    def __len__(self) -> int:
        return sum(len(connections) for connections in self._by_user.values())

    @property
    def users(self) -> int:
        """Users with connections here."""
        return len(self._by_user)

    # -- inside ----------------------------------------------------------------------------------

    def _check_revoked(self, identity: Identity) -> None:
        if self.revocations.cover(identity.user, identity.token_id, identity.issued_at_s):
            raise TokenRevoked

    async def _take_slot(self, authorized: AuthorizedConnection) -> None:
        user, limit = authorized.principal.identity.user, authorized.principal.identity.limit
        connection = new_connection_id()
        try:
            verdict = await self._slots.take(user, connection, limit)
        except RedisUnavailable:
            if self._settings.slots.when_redis_away == "closed":
                raise
            verdict = self._slots.take_locally(user, connection, limit)
            authorized.note = {"connection_limit": "this replica only"}
        if isinstance(verdict, Full):
            raise ConnectionLimit(verdict.count, verdict.limit)
        if authorized.sender.closed:
            self._slots.release(user, connection)
            return
        try:
            self._check_revoked(authorized.principal.identity)  # it may have come meanwhile
        except TokenRevoked:
            self._slots.release(user, connection)
            raise
        authorized.connection = connection
        self._by_user.setdefault(user, {})[connection] = authorized
        self._limiter.when_gone(authorized.sender, lambda: self._gone(authorized))
        if isinstance(verdict, Replaced):
            self.replaced(victim.connection for victim in verdict.victims)
            self.on_victims(verdict.victims)

    def _gone(self, authorized: AuthorizedConnection) -> None:
        if authorized.timer is not None:
            authorized.timer.cancel()
        if authorized.renewal is not None:
            authorized.renewal.end()
        user = authorized.principal.identity.user
        connections = self._by_user.get(user, {})
        if connections.pop(authorized.connection, None) is not None:
            self._slots.release(user, authorized.connection)
            if not connections:
                del self._by_user[user]

    def _close_some(
        self, user: str, connections: Iterable[str], code: CloseCode, name: str
    ) -> None:
        open_ones = self._by_user.get(user, {})
        for connection in tuple(connections):
            authorized = open_ones.get(connection)
            if authorized is not None:
                _close(authorized, code, name, code.meaning)

    async def _renew(self, authorized: AuthorizedConnection, token: str) -> None:
        try:
            if not await self._take_token(authorized, token):
                return
        except Refused as refused:
            _tell(authorized, error_frame(refused.code, str(refused), retry=refused.retry))
            return
        for operation in tuple(authorized.operations):
            if authorized.sender.closed or (
                authorized.renewal is not None and authorized.renewal.is_overtaken
            ):
                return
            try:
                await self.authorise(authorized, operation)
            except Refused as refused:
                if refused.retry:
                    continue  # it cannot be told now: the last answer holds
                if operation not in authorized.operations:
                    continue  # no longer watched
                authorized.unwatched(operation)
                if authorized.on_denied is not None:
                    authorized.on_denied(operation, refused)
                else:
                    _close(authorized, refused.close, refused.code, str(refused))

    async def _take_token(self, authorized: AuthorizedConnection, text: str) -> bool:
        """Whether this token says something new; the viewer is told what became of it.

        Raises:
            Refused: it is not a good one, or not for this connection.
        """
        held = authorized.principal.token
        if held is not None and held.text == text:  # so nobody has to be asked
            _tell(authorized, refreshed_frame())
            return False
        principal = await self._authenticator.renew(text)
        self._check_revoked(principal.identity)
        identity = principal.identity
        if authorized.expiry is None or not authorized.expiry.renew(
            identity.user, identity.expires_at
        ):
            message = "the token must be of the same user, and in time"
            raise Refused("refresh_refused", message, close_codes.UNAUTHENTICATED)
        is_new = held is None or principal.token is None or not held.says_the_same(principal.token)
        authorized.principal = principal
        _tell(authorized, refreshed_frame())
        self.watch_the_clock(authorized)
        return is_new


def _tell(authorized: AuthorizedConnection, frame: Frame) -> None:
    if authorized.sender.writable:
        authorized.sender.write(Batch([frame]))


def _close(authorized: AuthorizedConnection, code: CloseCode, name: str, message: str) -> None:
    sender = authorized.sender
    listener, sender.listener = sender.listener, None
    if listener is not None:
        listener.on_closed()
    refuse(sender, Refusal(code, name, message))
