"""Takes part in the election, and runs the leader's work while it leads.

`run` looks, renews and, while this process leads, keeps one task with the work going. The work is
cancelled in the moment the leadership is lost, and asks `leads()` itself before each step that
cannot be taken back. Giving the Lease up on the way out lets the next one begin at once.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from tidegate_operator.kube.errors import ApiConflict, ApiNotFound, KubeError
from tidegate_operator.kube.lease import Record, Write, lease_time
from tidegate_operator.leader.election import Election, Terms

log = structlog.get_logger(__name__)

#: The work gets so long to end after its cancellation. It may sit in one call to Redis or to the
#: API server, and those have shorter limits.
WORK_ENDS_S = 30.0


class LeaseStore(Protocol):
    """Where the Lease is kept; `Kube` is one."""

    async def lease(self, name: str) -> Record | None: ...

    async def write_lease(
        self, name: str, write: Write, *, duration_s: int, renewed: datetime
    ) -> Record: ...


class Leader:
    """One candidate; `run` until `stop`."""

    def __init__(
        self,
        store: LeaseStore,
        *,
        lease: str,
        identity: str,
        terms: Terms,
        work: Callable[[], Awaitable[None]],
    ) -> None:
        """`work` runs while this candidate leads, is cancelled when it does no longer, and never
        ends by itself.
        """
        self._store = store
        self._lease = lease
        self._terms = terms
        self._work = work
        self._election = Election(identity, terms)
        self._clock = asyncio.get_running_loop().time
        self._stopping = asyncio.Event()
        self._last_error: str | None = None
        #: When someone last led, as far as this candidate knows.
        self._led_at = self._clock()
        #: When the API server last answered, by the loop's clock; None: not yet.
        self.spoke_at: float | None = None
        #: When the election last took a turn, with or without an answer.
        self.turned_at = self._clock()
        self.counts: Counter[str] = Counter()

    def leads(self) -> bool:
        """Whether this process leads in this moment; the fence before every step."""
        return self._election.leads(self._clock()) and not self._stopping.is_set()

    @property
    def holder(self) -> str:
        """Who leads, as far as is known; empty if nobody."""
        return self._election.holder

    def leaderless_s(self) -> float:
        """For how long this candidate neither led nor saw anyone lead, in seconds."""
        now = self._clock()
        return 0.0 if self._election.sees_leader(now) else now - self._led_at

    @property
    def trouble(self) -> str:
        """Why the last turn of the election failed; empty if it did not."""
        return self._last_error or ""

    def stop(self) -> None:
        """End the work, give the Lease up, end. Any number of times."""
        self._stopping.set()

    async def run(self) -> None:
        """Take part until `stop`.

        Raises:
            whatever the work raises, after the Lease was given up.
        """
        work: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                await self._turn()
                if self.leads() and work is None:
                    log.info("leading", lease=self._lease, identity=self._election.identity)
                    self.counts["begins"] += 1
                    work = asyncio.ensure_future(self._work())
                    work.set_name("leading")
                await self._pause(work)
                if work is not None and work.done():
                    work.result()
                    raise RuntimeError("the leader's work ended by itself")
                if work is not None and not self.leads():
                    if not self._stopping.is_set():
                        log.warning("leadership lost", holder=self.holder)
                        self.counts["losses"] += 1
                    await self._end(work)
                    work = None
        finally:
            try:
                if work is not None:
                    await self._end(work)
            finally:
                await self._release()

    # -- inside ------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        """Look at the Lease, and write what there is to write."""
        self.turned_at = self._clock()
        try:
            async with asyncio.timeout(self._terms.renew_s * 2):
                write = self._election.look(self._clock())
                if write is None or not await self._write(write):
                    record = await self._store.lease(self._lease)
                    self.spoke_at = self._clock()
                    write = self._election.read(record, self._clock())
                    if write is not None:
                        await self._write(write)
        except (KubeError, TimeoutError) as error:
            self._failed(str(error) or "no response in time")
        else:
            if self._last_error is not None:
                log.info("lease renewal recovered")
            self._last_error = None
        if self._election.sees_leader(self._clock()):
            self._led_at = self._clock()

    async def _write(self, write: Write) -> bool:
        """Ask for a write; whether it was accepted."""
        renewed = datetime.now(UTC)
        self._election.sending(lease_time(renewed), self._clock())
        try:
            record = await self._store.write_lease(
                self._lease, write, duration_s=round(self._terms.duration_s), renewed=renewed
            )
        except ApiConflict:
            self.counts["conflicts"] += 1
            return False
        except ApiNotFound:
            if write.version is None:
                raise  # there is no such namespace
            log.warning("lease was deleted", lease=self._lease)
            self.counts["deletions"] += 1
            return False
        self.spoke_at = self._clock()
        self._election.written(record, self.spoke_at)
        self.counts["renewals"] += 1
        return True

    async def _pause(self, work: asyncio.Task[None] | None) -> None:
        """Until the next turn, the end of the leadership, of the work, or of everything."""
        wait_s = self._terms.renew_s * random.uniform(0.8, 1.0)
        if work is not None:
            wait_s = min(wait_s, self._election.left_s(self._clock()))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(
                {stopping} if work is None else {stopping, work},
                timeout=wait_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stopping.cancel()

    async def _end(self, work: asyncio.Task[None]) -> None:
        """Cancel the work and wait for its end, without leading meanwhile."""
        work.cancel()
        _, pending = await asyncio.wait({work}, timeout=WORK_ENDS_S)
        if pending:
            raise RuntimeError(f"the leader's work did not end within {WORK_ENDS_S:g} s")
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    async def _release(self) -> None:
        write = self._election.release(self._clock())
        if write is None:
            return
        try:
            async with asyncio.timeout(self._terms.renew_s * 2):
                await self._store.write_lease(
                    self._lease,
                    write,
                    duration_s=round(self._terms.duration_s),
                    renewed=datetime.now(UTC),
                )
            log.info("lease released", lease=self._lease)
        except (KubeError, TimeoutError) as error:
            log.warning("failed to release lease", reason=str(error) or "no response in time")

    def _failed(self, reason: str) -> None:
        self.counts["failures"] += 1
        if reason != self._last_error:
            log.warning("failed to read or renew lease", reason=reason)
        self._last_error = reason
