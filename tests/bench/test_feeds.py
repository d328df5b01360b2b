"""The bench of feeds, smaller: it makes what it says, and notices what is missing."""

from dataclasses import replace

import pytest

from bench.feeds import LIMIT, play, table
from bench.stage import redis_binary


@pytest.mark.real("valkey9")
async def test_few_operations_of_few_users() -> None:
    found = await play(redis_binary(), 60, 4, 8)
    assert found.wrong == ()
    assert found.plain.operations == found.listed.operations == 60
    assert min(found.listed.memory, found.plain.memory) > 0  # of so few it tells no more
    assert found.pages.requests == 8
    assert table(replace(found), 4).row_count > 5
    assert LIMIT < 60 // 4, "a page is not all of a feed"
