"""Commands that a test started end with it."""

from collections.abc import AsyncIterator

import pytest

from tests.cli import command


@pytest.fixture(autouse=True)
async def no_command_is_left() -> AsyncIterator[None]:
    yield
    await command.end_all()
