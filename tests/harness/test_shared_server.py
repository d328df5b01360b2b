"""What one test did to a shared server does not reach the next one."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError

from tests.servers.standalone import Server


async def test_a_wiped_server_keeps_no_record_of_what_was_refused(any_server: Server) -> None:
    async with any_server.client(username="nobody", password="wrong") as stranger:
        with pytest.raises(AuthenticationError):
            await stranger.ping()
    async with any_server.client() as admin:
        assert len(await admin.execute_command("ACL", "LOG")) == 1
    await any_server.wipe()
    async with any_server.client() as admin:
        assert await admin.execute_command("ACL", "LOG") == []
    assert await any_server.intact(), "so the next test gets this server"
