"""The bench of memory, smaller: each part is there, and grows with what is put into it."""

import pytest

from bench.memory import play, table
from bench.stage import redis_binary


@pytest.mark.full
@pytest.mark.real("valkey9")
async def test_a_hundred_connections() -> None:
    found = await play(redis_binary(), 100)
    assert found.wrong == ()
    # Of so few connections resident memory says little; of the keys of Redis it says enough.
    assert found.replica > 30_000_000
    assert 500 < found.redis_operation < 50_000
    assert 150 < found.redis_entry < 400
    assert 1 <= found.redis_connections <= 19
    assert table(found).row_count == 6
