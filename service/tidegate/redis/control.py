"""Messages between replicas: disconnect, revoke, replaced, rebalance, and surveys.

They are JSON on a sharded channel of this gateway (`redis.names`). Pub/sub delivers at most once: a
replica that is not subscribed at that moment misses a message. So `publish` returns how many were,
and `on_gap` is called when this replica may have missed something. Anyone with access to Redis can
send anything: what is too long, unknown or malformed is counted and dropped.

Each replica also subscribes to a channel of its own, for answers to its requests.

It uses a `Link` of its own, not those of the feed, which belong to streams and come and go with
them; and redis-py's asyncio pub/sub differs between one server, Sentinel and Cluster. A link is the
same for all, notices a dead server by its heartbeat, and asks the topology where the channel is, as
a failover or a moved slot requires.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple, get_args

import hiredis
import msgspec
import structlog
from msgspec import Meta

from tidegate.core.backoff import Backoff
from tidegate.core.survey import OperationSurveyRequest, SurveyRequest
from tidegate.model.errors import RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis.address import Node
from tidegate.redis.batches import end_if_cancelled
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.link import Link, connect, pack
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

MESSAGE_MAX_BYTES = 65_536
TICK_S = 0.25

_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Reason = Annotated[str, Meta(max_length=120)]


class DisconnectUser(msgspec.Struct, frozen=True, tag_field="kind", tag="disconnect_user"):
    """Close every connection of a user."""

    user: _Name
    reason: _Reason = ""


class DisconnectOperation(
    msgspec.Struct, frozen=True, tag_field="kind", tag="disconnect_operation"
):
    """Close every connection that watches an operation, whosoever."""

    operation: _Name
    reason: _Reason = ""


class Revoke(msgspec.Struct, frozen=True, tag_field="kind", tag="revoke"):
    """A user's tokens are good no longer: one by its id, or all that were issued before. It is on
    the list of `redis.revoked` already.
    """

    user: _Name
    token_id: _Name | None = None
    issued_before_s: float | None = None
    reason: _Reason = ""


class ReplacedConnections(msgspec.Struct, frozen=True, tag_field="kind", tag="replaced"):
    """Connections that lost their slots to newer ones (4409)."""

    connections: Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=1_000)]


class Rebalance(msgspec.Struct, frozen=True, tag_field="kind", tag="rebalance"):
    """A pod has too many: send so many connections away, spread over this time."""

    pod: _Name
    connections: Annotated[int, Meta(ge=1, le=1_000_000)]
    over_s: Annotated[float, Meta(ge=0, le=3_600)] = 30.0


Message = (
    DisconnectUser
    | DisconnectOperation
    | Revoke
    | ReplacedConnections
    | Rebalance
    | SurveyRequest
    | OperationSurveyRequest
)

_KINDS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(Message))
_decoder = msgspec.json.Decoder(Message)


class _Head(msgspec.Struct):
    kind: str


class _NoTurn:
    """What a message asks for is done in its handler; there is nothing to do behind it."""

    def begin(self) -> None:
        """Nothing is held back."""

    def end(self) -> None:
        """Nothing was."""


class ControlStats(NamedTuple):
    """Whether it listens, and what came; counters only grow."""

    listening: bool
    counts: dict[str, int]


class Control:
    """`run` listens until cancelled; `publish` works at any time."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        on_message: Callable[[Message], None],
        *,
        on_gap: Callable[[], None] = lambda: None,
        on_reply: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        """`on_message` also gets one's own; `on_gap`: listening again, something may be missed.
        `on_reply`: an answer to this replica, of anyone and at most `MESSAGE_MAX_BYTES`.
        """
        self._topology = topology
        self._channel = topology.names.control
        #: Names this replica's channel for answers, and nothing else.
        self.reply_to = secrets.token_hex(12)
        self._reply_channel = self._replies_of(self.reply_to)
        self._on_reply = on_reply
        self._settings = settings
        self._on_message = on_message
        self._on_gap = on_gap
        self._lost = asyncio.Event()
        self._listening = asyncio.Event()
        self._had_listened = False
        self._last_error: str | None = None
        self.counts: Counter[str] = Counter()

    async def publish(self, message: Message) -> int:
        """Tell all replicas; how many listened (in a Cluster: on the channel's primary).

        Raises:
            RedisUnavailable: within `slots.wait_s`.
            ValueError: the message is out of its own bounds, so nobody would accept it.
        """
        payload = msgspec.json.encode(message)
        if len(payload) > MESSAGE_MAX_BYTES:
            raise ValueError("the message is too long")
        _decoder.decode(payload)
        return await self._send(self._channel, payload)

    async def reply(self, reply_to: str, payload: bytes) -> int:
        """Answer the replica whose `reply_to` this is; how many listened: one, or none any more.

        Raises:
            RedisUnavailable: as `publish`.
            ValueError: it is too long.
        """
        if len(payload) > MESSAGE_MAX_BYTES:
            raise ValueError("the answer is too long")
        return await self._send(self._replies_of(reply_to), payload)

    async def _send(self, channel: bytes, payload: bytes) -> int:
        client: Any = self._topology.client
        try:
            async with asyncio.timeout(self._settings.slots.wait_s):
                return int(await client.spublish(channel, payload))
        except CLIENT_ERRORS as error:
            raise translate(error) from None

    def _replies_of(self, reply_to: str) -> bytes:
        """In the cluster slot of the control channel, so that one link has both."""
        return self._channel + b":" + reply_to.encode()

    async def say_replaced(self, connections: tuple[str, ...]) -> None:
        """Tell all replicas whose slots newer connections took; a line in the log where it fails.

        Raises:
            ValueError: as `publish`.
        """
        try:
            await self.publish(ReplacedConnections(connections))
        except RedisUnavailable as error:
            log.warning("replaced connections on other replicas not closed yet", error=error.detail)

    async def run(self) -> None:
        """Listen, and listen again wherever the channel is by then."""
        redis = self._settings.redis
        backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
        while True:
            try:
                await self._topology.refresh()
                await self._listen()
                backoff.reset()
            except (OSError, TimeoutError, hiredis.HiredisError, RedisUnavailable) as error:
                self._refused(str(error) or type(error).__name__)
            finally:
                self._listening.clear()
            end_if_cancelled()
            await asyncio.sleep(backoff.next_s())

    async def listening(self) -> None:
        """Until it listens."""
        await self._listening.wait()

    def stats(self) -> ControlStats:
        """Whether it listens, and what came."""
        return ControlStats(self._listening.is_set(), dict(self.counts))

    # -- one connection ----------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Until the link is lost or the channel lives elsewhere."""
        node = self._topology.node_for(self._channel)
        if node is None:
            raise RedisUnavailable("no server for the control channel is known")
        self._lost = asyncio.Event()
        async with asyncio.timeout(self._settings.redis.connect_timeout_s):
            link, greeting = await connect(
                node, self._topology.address, self._pushed, self._lost.set, _NoTurn()
            )
        try:
            async with asyncio.timeout(self._settings.redis.reply_timeout_s):
                await self._subscribe(link, greeting)
            self._subscribed()
            await self._watch(link, node)
        finally:
            link.abort()

    async def _subscribe(self, link: Link, greeting: dict[bytes, Any]) -> None:
        if greeting.get(b"role", b"master") not in (b"master", b"primary"):
            raise RedisUnavailable("the control channel's server is a replica")
        link.send(pack("CLIENT", "SETNAME", f"tidegate-control:{self._pod}"), _ignore)
        await link.subscribed("SSUBSCRIBE", self._channel)
        try:
            await link.subscribed("SSUBSCRIBE", self._reply_channel)
        except hiredis.ReplyError as error:  # disconnecting and revoking do not need it
            self.counts["replies_refused"] += 1
            if self.counts["replies_refused"] == 1:
                channel = self._reply_channel.decode()
                log.warning(
                    "answers to surveys are not received", channel=channel, error=str(error)
                )

    def _subscribed(self) -> None:
        self._last_error = None
        self.counts["connects"] += 1
        self._listening.set()
        if self._had_listened:
            log.info("control channel reconnected")
            self._on_gap()
        self._had_listened = True

    async def _watch(self, link: Link, node: Node) -> None:
        loop, redis = asyncio.get_running_loop(), self._settings.redis
        while not self._lost.is_set() and self._topology.node_for(self._channel) == node:
            try:
                async with asyncio.timeout(TICK_S):
                    await self._lost.wait()
            except TimeoutError:
                pass
            if link.is_overdue(redis.reply_timeout_s):
                return
            if not link.is_waiting and loop.time() - link.alive_at > redis.heartbeat_s:
                link.send(pack("PING"), _ignore)

    def _refused(self, reason: str) -> None:
        self.counts["connect_failures"] += 1
        if reason != self._last_error:
            log.warning("control channel unavailable", reason=reason)
        self._last_error = reason

    @property
    def _pod(self) -> str:
        return self._settings.server.pod

    # -- messages ----------------------------------------------------------------------------------

    def _pushed(self, push: list[Any]) -> None:
        if push[0] == b"smessage" and push[1] == self._channel:
            self._received(push[2])
        elif push[0] == b"smessage" and push[1] == self._reply_channel:
            self._replied(push[2])
        elif push[0] == b"sunsubscribe":  # the slot has moved away
            self._lost.set()

    def _replied(self, payload: bytes) -> None:
        if len(payload) > MESSAGE_MAX_BYTES:
            self.counts["too_long"] += 1
        else:
            self._on_reply(payload)

    def _received(self, payload: bytes) -> None:
        if len(payload) > MESSAGE_MAX_BYTES:
            self.counts["too_long"] += 1
            return
        try:
            message: Message = _decoder.decode(payload)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            self.counts[_what_is_wrong(payload)] += 1
            return
        self.counts["received"] += 1
        self._on_message(message)


def _what_is_wrong(payload: bytes) -> str:
    """A kind that we do not know comes from a newer replica; the rest is someone's mistake."""
    try:
        kind = msgspec.json.decode(payload, type=_Head).kind
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return "unreadable"
    return "unreadable" if kind in _KINDS else "unknown_kind"


def _ignore(reply: Any) -> None:
    """A reply that nothing depends on."""
