"""Surveys: this replica requests reports of all others, and answers their requests.

    request on the control channel --> each replica --report on the channel of the one who asked-->

The requesting replica knows from the leases which replicas should answer, and waits at most
`DEADLINE_S`; a replica that has not answered by then is in the result without a report. Both sides
are limited: the number of surveys and answers per second, and the size of reports; a report that
was just made is sent again instead of a new one. Pub/sub delivers at most once and is open to
anyone with access to Redis: answers that were not requested, arrive twice or come from a sender
without a lease are counted and dropped.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from tidegate.concurrency.single_flight import SingleFlightCache
from tidegate.core.survey import (
    OperationSurveyRequest,
    Report,
    Request,
    SurveyRequest,
    read_report,
)
from tidegate.core.token_bucket import TokenBucket
from tidegate.model.errors import Overloaded, RedisUnavailable
from tidegate.model.operation_order import OperationOrder
from tidegate.redis.control import Control
from tidegate.redis.pods import PodRecord, Pods

log = structlog.get_logger(__name__)

#: A replica that has not answered by then is shown without figures.
DEADLINE_S = 1.0
#: Surveys that this replica begins, and answers that it gives, to whomever.
ASKED_PER_S, ASKED_BURST = 5.0, 10
ANSWERED_PER_S, ANSWERED_BURST = 20.0, 40
#: A report is as good as new for so long: twenty who ask at once cost one.
REPORT_FRESH_S = 0.5
REPORTS_KEPT = 32
#: More replicas than these are counted and not listed.
REPLICAS_MAX = 200


class Reporter(Protocol):
    """Makes this replica's reports. `id` and `incarnation` are filled in by who sends them."""

    async def report(self, request: Request) -> Report:
        """What was asked for."""


class SurveyedReplica(NamedTuple):
    """A replica with a lease, and its report if it came in time."""

    record: PodRecord
    report: Report | None


class SurveyResult(NamedTuple):
    """All replicas that could be listed, by incarnation. `redis_error`: this one is alone."""

    replicas: list[SurveyedReplica]
    omitted: int = 0
    redis_error: str | None = None


class _Pending:
    """A survey that waits for reports."""

    def __init__(self, expected: set[str]) -> None:
        self._missing = expected
        self.reports: dict[str, Report] = {}
        self.complete = asyncio.Event()

    def take(self, report: Report) -> bool:
        """Whether it was waited for."""
        if report.incarnation not in self._missing:
            return False
        self._missing.discard(report.incarnation)
        self.reports[report.incarnation] = report
        if not self._missing:
            self.complete.set()
        return True


class Surveys:
    """Both sides. `heard` and `replied` are called by the control channel."""

    def __init__(
        self,
        pod: str,
        *,
        control: Control,
        pods: Pods,
        reporter: Reporter,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        clock: Callable[[], float] = time.monotonic,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._pod = pod
        self._control = control
        self._pods = pods
        self._reporter = reporter
        self._spawn = spawn
        self._clock = clock
        self._deadline_s = deadline_s
        self._may_ask = TokenBucket(ASKED_PER_S, ASKED_BURST)
        self._may_answer = TokenBucket(ANSWERED_PER_S, ANSWERED_BURST)
        self._pending: dict[str, _Pending] = {}
        self._reports: SingleFlightCache[Report] = SingleFlightCache(REPORTS_KEPT, clock)
        self.counts: Counter[str] = Counter()

    # -- asking ------------------------------------------------------------------------------------

    async def ask(self, order: OperationOrder, search: str, user_search: str) -> SurveyResult:
        """All replicas about themselves.

        Raises:
            Overloaded: too many surveys a second.
        """
        request_id = secrets.token_hex(12)
        return await self._ask(
            SurveyRequest(request_id, self._control.reply_to, order, search, user_search)
        )

    async def ask_operation(self, operation: str) -> SurveyResult:
        """All replicas about one operation. Raises as `ask`."""
        request_id = secrets.token_hex(12)
        return await self._ask(
            OperationSurveyRequest(request_id, self._control.reply_to, operation)
        )

    async def _ask(self, request: Request) -> SurveyResult:
        if not self._may_ask.take(self._clock()):
            raise Overloaded("surveys per second", round(ASKED_PER_S))
        self.counts["asked"] += 1
        try:
            roster = await self._pods.roster()
        except RedisUnavailable as error:
            return await self._alone(request, str(error))
        own = self._own
        listed = sorted(roster, key=lambda one: (one.incarnation != own, one.incarnation))
        listed = listed[:REPLICAS_MAX]
        others = {record.incarnation for record in listed} - {own}
        pending = self._pending[request.id] = _Pending(others)
        try:
            if others:
                await self._control.publish(request)
            mine = await self._make(request)
            if others:
                try:
                    async with asyncio.timeout(self._deadline_s):
                        await pending.complete.wait()
                except TimeoutError:
                    self.counts["timeouts"] += 1
        except RedisUnavailable as error:
            return await self._alone(request, str(error))
        finally:
            del self._pending[request.id]
        reports = {**pending.reports, own: mine}
        if all(record.incarnation != own for record in listed):
            listed.insert(0, PodRecord(own, 0, {}))  # its lease has lapsed, and it serves
        found = [SurveyedReplica(record, reports.get(record.incarnation)) for record in listed]
        return SurveyResult(found, max(0, len(roster) - REPLICAS_MAX))

    async def _alone(self, request: Request, why: str) -> SurveyResult:
        mine = await self._make(request)
        return SurveyResult([SurveyedReplica(PodRecord(self._own, 0, {}), mine)], 0, why)

    @property
    def _own(self) -> str:
        # Before the first lease nobody else can know this replica.
        return self._pods.incarnation or self._pod

    def replied(self, payload: bytes) -> None:
        """A report, or what someone sent as one."""
        try:
            report = read_report(payload)
        except ValueError:  # also what is no UTF-8
            self.counts["unreadable"] += 1
            return
        pending = self._pending.get(report.id)
        taken = pending is not None and pending.take(report)
        self.counts["replies" if taken else "unexpected"] += 1

    # -- answering ---------------------------------------------------------------------------------

    def heard(self, request: Request) -> None:
        """Someone asks; one's own requests come here as well."""
        if request.reply_to == self._control.reply_to:
            return
        if not self._may_answer.take(self._clock()):
            self.counts["refused"] += 1
            return
        _ = self._spawn(self._answer(request), "survey")

    async def _answer(self, request: Request) -> None:
        report = await self._make(request)
        try:
            heard = await self._control.reply(request.reply_to, msgspec.json.encode(report))
        except RedisUnavailable as error:
            log.warning("survey not answered", error=error.detail)
        else:
            self.counts["answered" if heard else "unheard"] += 1

    async def _make(self, request: Request) -> Report:
        about: Hashable
        if isinstance(request, SurveyRequest):
            about = (request.order, request.search, request.user_search)
        else:
            about = request.operation
        report = await self._reports.get(
            about, lambda: self._reporter.report(request), lambda _: REPORT_FRESH_S
        )
        return msgspec.structs.replace(report, id=request.id, incarnation=self._own)
