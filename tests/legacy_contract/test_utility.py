"""Group 6: many at once, and the getter."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.harness.backend import Backend
from tests.harness.viewer import Viewer
from tests.legacy_contract.application import Application


async def test_concurrent_connections(app: Application, backend: Backend) -> None:
    operations = [f"op-{n}" for n in range(5)]
    viewers = [app.watch(operations[n % 5], user=f"user-{n % 10}") for n in range(60)]
    await asyncio.gather(*(viewer.__aenter__() for viewer in viewers))
    try:
        await asyncio.gather(*(viewer.state() for viewer in viewers))
        written = await asyncio.gather(*(backend.publish_many(op, 40) for op in operations))

        async def sees(number: int, viewer: Viewer) -> bool:
            return await viewer.ids(40) == written[number % 5]

        assert all(await asyncio.gather(*(sees(n, v) for n, v in enumerate(viewers))))
        assert app.guests == 60
    finally:
        await asyncio.gather(*(viewer.socket.close() for viewer in viewers))
    await app.empty()


class Status(enum.Enum):
    RUNNING = "processing"


@dataclass
class Row:
    """As an ORM would give it."""

    status: Status
    type: str
    created_at: datetime
    secret: str = "not for viewers"


async def test_set_operation_getter(app: Application, backend: Backend) -> None:
    asked: list[str] = []

    async def getter(operation: str) -> Row:
        asked.append(operation)
        return Row(Status.RUNNING, "index", datetime(2026, 11, 23, tzinfo=UTC))

    app.manager.set_operation_getter(getter)
    async with app.watch("42") as viewer:
        state = await viewer.state()
    assert asked == ["42"]
    assert state["data"] == {
        "status": "processing",
        "operation_type": "index",
        "created_at": "2026-11-23T00:00:00+00:00",
    }

    # What an entry has said is newer than what the getter says.
    await backend.publish("42", status="indexing")
    async with app.watch("42") as viewer:
        assert (await viewer.state())["data"]["status"] == "indexing"

    # The getter knows that it has ended, and no entry says so: the viewer does not wait for ever.
    app.manager.set_operation_getter(lambda operation: {"status": "completed"})
    async with app.watch("43") as viewer:
        assert (await viewer.state())["data"]["status"] == "completed"
        assert (await viewer.closed()).code == 1000

    app.manager.set_operation_getter(None)
    async with app.watch("44") as viewer:
        assert (await viewer.state())["data"] == {"status": "unknown"}
