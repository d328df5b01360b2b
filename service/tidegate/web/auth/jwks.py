"""The published keys of an issuer (RFC 7517): fetched at the start, refreshed, and kept while the
URL is unavailable.

One task, `run`, does all fetching, so that a viewer that disconnects cannot cancel a fetch for
which others wait. It fetches when the keys are `max_age_s` old, and when a token names an unknown
key id. Two fetches never start within `min_interval_s`, because anyone can make up key ids. A
failed fetch changes nothing; a successful one replaces all keys, so that a withdrawn key is
forgotten.

    requested kid      known                       the keys
                       unknown, fetch may start    wait for it, then: the keys, or no keys
                       unknown, too early          refused with `retry`: unknown at the moment
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from tidegate.web.auth.fetch import Fetcher, FetchFailed
from tidegate.web.auth.keys import KeyUnusable, VerifyingKey, jwks_keys
from tidegate.web.problem import Unauthenticated

DOCUMENT_MAX_BYTES = 262_144
#: A token without a key id may be tried with so many keys, no more: each try costs up to 0.1 ms.
TRIES_MAX = 4

log = structlog.get_logger(__name__)


class JwksStats(NamedTuple):
    """How the keys are."""

    keys: int
    fetches: int
    failures: int
    age_s: float | None


class Jwks:
    """A `KeySource` behind a URL; `clock` is monotonic."""

    def __init__(
        self,
        url: str,
        fetcher: Fetcher,
        *,
        min_interval_s: float,
        max_age_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._fetcher = fetcher
        self._min_interval_s = min_interval_s
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: tuple[VerifyingKey, ...] = ()
        self._loaded_at: float | None = None
        self._tried_at: float | None = None
        self._wanted = asyncio.Event()
        #: Set when the fetch that is under way, or the next one, is over; then replaced.
        self._round = asyncio.Event()
        self._fetching = False
        self._fetches = 0
        self._failures = 0

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:
        """Keys with this id; without one, all keys if they are few."""
        found = self._known(kid)
        if found or (kid is None and len(self._keys) > TRIES_MAX):
            return found
        if not self._may_fetch():
            raise _later()
        await self._next_round()
        found = self._known(kid)
        if not found and not self._is_fresh:
            raise _later()
        return found

    async def run(self) -> None:
        """Fetch, now and whenever it is due, until cancelled."""
        while True:
            started = self._clock()
            await self._fetch(started)
            await asyncio.sleep(started + self._min_interval_s - self._clock())
            if self._is_fresh:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(started + self._max_age_s - self._clock()):
                        await self._wanted.wait()

    async def close(self) -> None:
        """Close the connection."""
        await self._fetcher.close()

    def stats(self) -> JwksStats:
        """Figures for metrics and for `/debug/state`."""
        age_s = None if self._loaded_at is None else self._clock() - self._loaded_at
        return JwksStats(len(self._keys), self._fetches, self._failures, age_s)

    def _known(self, kid: str | None) -> tuple[VerifyingKey, ...]:
        if kid is None:
            return self._keys if len(self._keys) <= TRIES_MAX else ()
        return tuple(key for key in self._keys if key.kid == kid)[:TRIES_MAX]

    @property
    def _is_fresh(self) -> bool:
        """The last fetch was a good one."""
        return self._loaded_at is not None and self._loaded_at == self._tried_at

    def _may_fetch(self) -> bool:
        if self._fetching or self._tried_at is None:
            return True
        return self._clock() - self._tried_at >= self._min_interval_s

    async def _next_round(self) -> None:
        if not self._fetching:
            self._wanted.set()
        try:
            async with asyncio.timeout(self._timeout_s + 1):
                await self._round.wait()
        except TimeoutError:  # `run` does not run
            raise _later() from None

    async def _fetch(self, now: float) -> None:
        was_fresh = self._is_fresh or self._tried_at is None
        self._tried_at = now
        self._wanted.clear()
        self._fetching = True
        self._fetches += 1
        try:
            answer = await self._fetcher.get(self._url)
            if answer.status != 200:
                raise FetchFailed(f"responded with status {answer.status}")
            keys, passed_over = jwks_keys(answer.body)
            if not keys:
                raise FetchFailed("contains no usable key")
        except (FetchFailed, KeyUnusable) as error:
            self._failures += 1
            if was_fresh:  # else it was said already
                log.warning(
                    "JWKS refresh failed; using cached keys", keys=len(self._keys), why=str(error)
                )
        else:
            if not was_fresh or keys != self._keys:
                log.info("JWKS refreshed", keys=len(keys), passed_over=passed_over)
            self._keys, self._loaded_at = keys, now
        finally:
            self._fetching = False
            self._round.set()
            self._round = asyncio.Event()


def _later() -> Unauthenticated:
    return Unauthenticated(
        "keys_unavailable", "the token cannot be verified at the moment; retry later", retry=True
    )
