"""The stage: a namespace on a real API server, beside a real Redis."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.operator.stage import Stage
from tests.servers.kubernetes import Kubernetes
from tests.servers.standalone import Server


@pytest.fixture
async def stage(
    kubernetes: Kubernetes, redis_server: Server, tmp_path: Path
) -> AsyncIterator[Stage]:
    async with Stage(kubernetes, redis_server.url, tmp_path) as stage:
        yield stage
