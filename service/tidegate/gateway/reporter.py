"""The reports of this replica for surveys (`core.survey`): itself, with the first of its operations
and users; or one operation.

Texts of backends and servers, and lists, are cut to their limits here, so that the requesting
replica does not reject the report.
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.core.survey import (
    OPERATIONS_MAX,
    OPERATIONS_MAX_BYTES,
    USER_MAX,
    USERS_MAX,
    USERS_MAX_BYTES,
    OperationReport,
    ReplicaReport,
    Report,
    ReportedFigures,
    ReportedOperation,
    ReportedUser,
    Request,
    SurveyRequest,
    ViewerCounts,
    clean,
    within,
)
from tidegate.gateway.channel import Channel
from tidegate.gateway.hub import Hub
from tidegate.gateway.inventory import Inventory
from tidegate.model.ids import OperationId
from tidegate.redis.feed import RedisFeed

LEADING = "leading"


class ReplicaReporter:
    """Implements `gateway.surveys.Reporter`."""

    def __init__(
        self,
        inventory: Inventory,
        *,
        hub: Hub,
        feed: RedisFeed,
        figures: Callable[[], ReportedFigures],
    ) -> None:
        self._inventory = inventory
        self._hub = hub
        self._feed = feed
        self._figures = figures

    async def report(self, request: Request) -> Report:
        """See `Reporter`."""
        if isinstance(request, SurveyRequest):
            return await self._replica(request)
        return self._operation(request.id, OperationId(request.operation))

    async def _replica(self, request: SurveyRequest) -> ReplicaReport:
        operations, viewers = await self._inventory.operations(
            OPERATIONS_MAX, request.order, request.search
        )
        users = await self._inventory.users(USERS_MAX, request.user_search)
        user_rows = [
            ReportedUser(user, held.connections, held.limit)
            for user, held in users.first
            if len(user) <= USER_MAX
        ]
        return ReplicaReport(
            request.id,
            "-",
            self._figures(),
            viewers,
            operations.total,
            operations.matching,
            within(map(self._row, operations.first), OPERATIONS_MAX_BYTES),
            users.matching,
            within(user_rows, USERS_MAX_BYTES),
        )

    def _row(self, channel: Channel) -> ReportedOperation:
        topic, stats = channel.topic, channel.stats()
        following = self._feed.following(topic.operation)
        return ReportedOperation(
            *(topic.operation, clean(topic.status), topic.finished, str(topic.last)),
            *(channel.taken, stats.live, stats.lagging, stats.catching_up),
            dispatches=following is not None and following.role == LEADING,
        )

    def _operation(self, request_id: str, operation: OperationId) -> OperationReport:
        channel = self._hub.channels.get(operation)
        if channel is None:
            return OperationReport(request_id, "-", followed=False)
        topic, stats, ring = channel.topic, channel.stats(), channel.topic.ring.stats()
        following = self._feed.following(operation)
        return OperationReport(
            request_id,
            "-",
            followed=True,
            state=topic.state.value,
            status=clean(topic.status),
            finished=topic.finished,
            cursor=str(topic.last),
            epoch=topic.epoch,
            gaps=topic.gaps,
            entries=channel.taken,
            viewers=ViewerCounts(stats.live, stats.lagging, stats.catching_up),
            ahead=len(channel.ahead),
            waiting=channel.waiting,
            role="" if following is None else following.role,
            node=clean((following and following.node) or "", 300),
            stale=channel.stale_since is not None,
            replay_frames=ring.frames,
            replay_bytes=ring.size_bytes,
        )
