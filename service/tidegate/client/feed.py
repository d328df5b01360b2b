"""`FeedViewer`: the operations of a feed, such as those of one user, as a live list.

    async with FeedViewer("user:42", "wss://gateway.example.com", token=token) as feed:
        async for operations in feed:
            for one in operations:
                print(one.title, one.state.status, one.state.progress)

One socket for all of it, which moves to the next replica when it is lost. Each turn of the
iteration is the newest list; those in between are left out for who reads slowly. It does not end by
itself, and raises when a gateway refuses the feed.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tidegate.client.feed_list import AGAIN_S, KEEP_ENDED_S, FeedList, FeedOperation
from tidegate.client.following import open_socket
from tidegate.client.viewer import PATIENCE_S, Token, error_of, next_token
from tidegate.client.watching import Decision, Return, WatchFinished, Watching
from tidegate.core.feeds import LISTED_MAX
from tidegate.model.errors import GatewayUnreachable, InvalidRequest
from tidegate.model.folded_state import is_entry
from tidegate.model.frame_parsing import parse_frame
from tidegate.model.frame_values import number_of
from tidegate.model.ids import parse_operation_id

#: The list is handed out no more often.
TOLD_EVERY_S = 0.05

Operations = tuple[FeedOperation, ...]


class _FeedConnection(Watching):
    """The feed, on the socket for many operations."""

    @property
    def url(self) -> str:
        parts = urlsplit(self._endpoints[self._at])
        path = parts.path[: parts.path.rindex("/operations/")]
        return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


class FeedViewer:
    """An async iterator over the lists of a feed. Use it in an `async with` block.

    Args:
        feed: id of the feed.
        urls: addresses of replicas, or of their load balancer.
        token: as of `Viewer`.
        limit: maximum number of operations; the newest are kept.
        keep_ended_s: how long an operation stays in the list after it has ended, in seconds.
        patience_s: give up if no replica responds for this long, in seconds.
        tls: for `wss://`.

    Raises:
        InvalidInput: an id, an address or a number is invalid.
    """

    def __init__(
        self,
        feed: str,
        urls: str | Sequence[str],
        *,
        token: Token | None = None,
        limit: int = LISTED_MAX,
        keep_ended_s: float = KEEP_ENDED_S,
        patience_s: float = PATIENCE_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        bases = [urls] if isinstance(urls, str) else list(urls)
        if not bases:
            raise InvalidRequest("urls", "must name at least one replica")
        operation = parse_operation_id(feed)
        self._list = FeedList(operation, limit=limit, keep_ended_s=keep_ended_s)
        try:
            self._watching = _FeedConnection(operation, bases, renewable=callable(token))
        except ValueError as error:
            raise InvalidRequest("urls", str(error)) from None
        self._token = token
        self._patience_s = patience_s
        self._tls = tls
        self._feed_again_at: float | None = None
        self._lists = self._follow()

    async def __anext__(self) -> Operations:
        """The next list.

        Raises:
            ViewerRefused: a gateway does not let us watch the feed; see its kinds.
            GatewayUnreachable: no replica answered for `patience_s`.
            StopAsyncIteration: a backend has ended the feed.
        """
        return await anext(self._lists)

    def __aiter__(self) -> Self:
        return self

    async def close(self) -> None:
        """Close the connection; may be called repeatedly."""
        await self._lists.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- inside -----------------------------------------------------------------------------------

    async def _follow(self) -> AsyncGenerator[Operations, None]:
        watching, answered_s = self._watching, time.monotonic()
        while True:
            opened = await open_socket(watching, await next_token(self._token), self._tls)
            if isinstance(opened, WatchFinished | Return):
                decision: Decision = opened
            else:
                async with opened:
                    self._list.opened(watching.cursor)
                    self._feed_again_at = None
                    async for operations in self._read(opened):
                        yield operations
                self._list.closed()
                if watching.connected:
                    answered_s = time.monotonic()
                decision = self._over or watching.closed(
                    opened.close_code or 1006, opened.close_reason or ""
                )
            if isinstance(decision, WatchFinished):
                if decision.refused is not None:
                    raise error_of(decision.refused, decision.text)
                return
            waited_s = time.monotonic() - answered_s
            if waited_s + decision.delay_s > self._patience_s:
                raise GatewayUnreachable(
                    f"no replica answered for {waited_s:.0f} s; the last: {decision.text}"
                )
            await asyncio.sleep(decision.delay_s)

    #: The feed has ended or was refused, on a connection that lives.
    _over: WatchFinished | None = None

    async def _read(self, socket: ClientConnection) -> AsyncGenerator[Operations, None]:
        told_at = 0.0
        try:
            while self._over is None:
                for message in self._list.outgoing():
                    await socket.send(message)
                now = time.time()
                if self._list.changed and now >= told_at and self._watching.connected:
                    told_at = now + TOLD_EVERY_S
                    yield self._list.operations()
                    continue
                try:
                    async with asyncio.timeout(self._wait_s(told_at)):
                        text = await socket.recv()
                except TimeoutError:
                    self._look()
                    continue
                frame = parse_frame(text)
                if frame is not None:
                    self._take(frame)
        except ConnectionClosed:
            return

    def _wait_s(self, told_at: float) -> float | None:
        due = [at for at in (self._list.next_due(), self._feed_again_at) if at is not None]
        if self._list.changed:
            due.append(told_at)
        return max(0.0, min(due) - time.time()) if due else None

    def _look(self) -> None:
        now = time.time()
        if self._feed_again_at is not None and self._feed_again_at <= now:
            self._feed_again_at = None
            self._list.watch_feed(self._watching.cursor)
        self._list.look(now)

    def _take(self, frame: Mapping[str, Any]) -> None:
        watching, now = self._watching, time.time()
        if not watching.is_ours(frame):
            self._list.received(frame, now)
        elif frame.get("type") == "unwatched" and not is_entry(frame):
            data = frame.get("data")
            code = number_of(data.get("code")) if isinstance(data, Mapping) else None
            decision = watching.closed(int(code or 1006))
            if isinstance(decision, WatchFinished):
                self._over = decision
            else:
                self._feed_again_at = now + max(decision.delay_s, AGAIN_S)
        elif watching.received(frame, now) and is_entry(frame):
            self._list.listed(frame, now)
