"""The list of revoked tokens that all replicas share.

A revocation is written to the list first and then sent on the control channel: replicas that
receive it act at once, and those that do not, or start later, read the list. It is read at the
start, after the channel was lost, and every `READ_AGAIN_S`, because pub/sub delivers at most once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from tidegate.core.backoff import Backoff
from tidegate.core.revocation import REVOCATIONS_MAX, Revocation, Revocations
from tidegate.model.errors import InvalidRequest, RedisUnavailable
from tidegate.model.settings import Settings
from tidegate.redis import lua
from tidegate.redis.batches import end_if_cancelled, run_script
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.topology import Topology

log = structlog.get_logger(__name__)

READ_AGAIN_S = 30.0

_decode = msgspec.json.Decoder(tuple[str, str | None, float | None]).decode


class RevokedTokens:
    """`run` keeps the book up to date until cancelled; `add` writes to the list."""

    def __init__(
        self,
        topology: Topology,
        settings: Settings,
        book: Revocations,
        *,
        on_more: Callable[[], None],
    ) -> None:
        """`on_more`: the list has something that this replica had not heard of."""
        self._topology = topology
        self._key = topology.names.revoked
        self._settings = settings
        self._book = book
        self._on_more = on_more
        self._kick = asyncio.Event()
        self.counts: Counter[str] = Counter()

    async def add(self, revocation: Revocation) -> None:
        """Keep it for `auth.revoked_keep_s`.

        Raises:
            RedisUnavailable: within `slots.wait_s`.
            InvalidRequest: as many as can be are kept already.
        """
        keep_s = round(self._settings.auth.revoked_keep_s)
        text = msgspec.json.encode(tuple(revocation))
        try:
            async with asyncio.timeout(self._settings.slots.wait_s):
                kept = await run_script(
                    self._topology, lua.REVOKE, [self._key], [keep_s, REVOCATIONS_MAX, text]
                )
        except TimeoutError:
            raise RedisUnavailable("Redis did not respond; send the request again") from None
        if not kept:
            reason = f"{REVOCATIONS_MAX} tokens are revoked already; revoke by issued_before"
            raise InvalidRequest("token_id", reason)

    def read_soon(self) -> None:
        """Something may have been missed."""
        self._kick.set()

    async def run(self) -> None:
        """Read the list, again and again."""
        redis = self._settings.redis
        backoff = Backoff(redis.backoff_min_s, redis.backoff_max_s)
        while True:
            self._kick.clear()
            try:
                await self._read()
                backoff.reset()
                wait_s = READ_AGAIN_S * random.uniform(0.8, 1.0)
            except RedisUnavailable:
                self.counts["read_failures"] += 1
                wait_s = backoff.next_s()
            end_if_cancelled()
            try:
                async with asyncio.timeout(wait_s):
                    await self._kick.wait()
            except TimeoutError:
                pass

    async def _read(self) -> None:
        self._book.begin_reading()
        client: Any = self._topology.client
        try:
            async with asyncio.timeout(self._settings.slots.wait_s):
                # Those that have ended are dropped at the next `add`; until then they do no harm.
                texts = await client.zrange(self._key, 0, REVOCATIONS_MAX - 1)
        except CLIENT_ERRORS as error:
            raise translate(error) from None
        listed = []
        for text in texts:
            try:
                listed.append(Revocation(*_decode(text)))
            except (msgspec.MsgspecError, UnicodeDecodeError):
                self.counts["unreadable"] += 1
        if self._book.have_read(listed):
            log.info("tokens revoked", known=len(self._book))
            self._on_more()
