"""Listing many operations and users: the first ones, in steps that leave the loop to others."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tidegate.gateway.channel import ChannelStats
from tidegate.gateway.hub import Hub
from tidegate.gateway.inventory import TURN, Inventory
from tidegate.model.operation_order import OperationOrder
from tidegate.redis.slots import HeldSlots

MANY = 20_000


class FakeChannel:
    """What a list needs of a channel; counts how often it is looked at."""

    looks = 0

    def __init__(self, operation: str, viewers: int, lagging: int, taken: int) -> None:
        self.topic = SimpleNamespace(operation=operation)
        self.live = range(viewers)
        self.behind = range(lagging)
        self.taken = taken

    def stats(self) -> ChannelStats:
        FakeChannel.looks += 1
        return ChannelStats(len(self.live), len(self.behind), 0, 0)


class FakeSlots:
    def __init__(self, users: dict[str, int]) -> None:
        self._users = users
        self.looks = 0

    def users(self) -> list[str]:
        return list(self._users)

    def held(self, user: str) -> HeldSlots:
        self.looks += 1
        return HeldSlots(self._users[user], 10)


def many_operations() -> Hub:
    channels = {
        f"op-{n}": FakeChannel(f"op-{n}", viewers=n % 7, lagging=int(n == 7), taken=n)
        for n in range(MANY)
    }
    return cast("Hub", SimpleNamespace(channels=channels))


class Turns:
    """Counts turns of the loop, and the most that was looked at within one."""

    def __init__(self, looks: Any) -> None:
        self.count = self.most = 0
        self._looks = looks
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Turns:
        self._task = asyncio.create_task(self._run())
        await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()

    async def _run(self) -> None:
        before = self._looks()
        while True:
            await asyncio.sleep(0)
            now = self._looks()
            self.count += 1
            self.most = max(self.most, now - before)
            before = now


@pytest.mark.parametrize("order", list(OperationOrder))
async def test_twenty_thousand_operations_are_looked_through_in_steps(
    order: OperationOrder,
) -> None:
    inventory = Inventory(many_operations(), FakeSlots({}))
    async with Turns(lambda: FakeChannel.looks) as turns:
        found, viewers = await inventory.operations(100, order)
    assert (found.total, found.matching, len(found.first)) == (MANY, MANY, 100)
    assert viewers.live == sum(n % 7 for n in range(MANY))
    assert viewers.lagging == 1
    # Counting, and for one order sorting what was kept and what is new.
    assert turns.most <= 3 * TURN
    assert turns.count >= MANY // TURN
    first = found.first[0]
    if order is OperationOrder.VIEWERS:
        assert [len(one.live) for one in found.first] == [6] * 100
    else:
        expected = "op-7" if order is OperationOrder.LAGGING else f"op-{MANY - 1}"
        assert first.topic.operation == expected


async def test_two_lists_at_once_do_not_make_the_steps_longer() -> None:
    inventory = Inventory(many_operations(), FakeSlots({}))
    async with Turns(lambda: FakeChannel.looks) as turns:
        lists = [inventory.operations(10, OperationOrder.ENTRIES) for _ in range(5)]
        await asyncio.gather(*lists)
    assert turns.most <= 3 * TURN


async def test_a_search_finds_parts_of_ids_in_any_case() -> None:
    channels = {name: FakeChannel(name, 1, 0, 0) for name in ("Import-7", "export-7", "import-8")}
    inventory = Inventory(cast("Hub", SimpleNamespace(channels=channels)), FakeSlots({}))
    found, viewers = await inventory.operations(1, OperationOrder.VIEWERS, "IMPORT")
    assert (found.total, found.matching, len(found.first)) == (3, 2, 1)
    assert viewers.live == 3  # of all
    nothing, _ = await inventory.operations(1, OperationOrder.VIEWERS, "%")
    assert nothing.matching == 0


async def test_users_with_the_most_connections() -> None:
    users = {f"user-{n}": n % 11 for n in range(MANY)}
    slots = FakeSlots(users)
    inventory = Inventory(cast("Hub", SimpleNamespace(channels={})), slots)
    async with Turns(lambda: slots.looks) as turns:
        found = await inventory.users(50, "User-")
    assert found.matching == sum(1 for count in users.values() if count)
    assert [held.connections for _, held in found.first] == [10] * 50
    assert turns.most <= TURN
    one = await inventory.users(50, "user-10019")
    assert one.first == [("user-10019", HeldSlots(10019 % 11, 10))]
