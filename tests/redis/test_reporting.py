"""What a task reporter writes, on a real server."""

from __future__ import annotations

import pytest

from tests.servers.standalone import Server
from tidegate.client.messages import message
from tidegate.model.ids import OperationId
from tidegate.model.settings import DispatchSettings, RedisSettings
from tidegate.redis.appending import Retention
from tidegate.redis.reporting import ReportAppender

OPERATION = OperationId("42")
CANCEL_KEY = "{operation-progress:42}:cancel"


@pytest.mark.parametrize(("type_", "asked"), [("operation_failed", False), ("retrying", True)])
async def test_nobody_asks_any_more_to_cancel_what_a_task_has_ended(
    redis_server: Server, type_: str, asked: bool
) -> None:
    async with redis_server.client() as client:
        asking = await client.xadd("operation-progress:42", {"type": "cancel_requested"})
        await client.set(CANCEL_KEY, asking)
    appender = ReportAppender(RedisSettings(url=redis_server.url), DispatchSettings(), Retention())
    try:
        assert appender.cancel_requested(OPERATION)
        assert appender.append_unless_ended(OPERATION, [message(type_, {"error": "late"})])
        assert appender.cancel_requested(OPERATION) is asked
        async with redis_server.client() as client:
            assert await client.exists(CANCEL_KEY) == asked, "for a worker that looks at the key"
    finally:
        appender.close()
