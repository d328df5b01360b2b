"""On the loop that a replica has, with somebody who writes."""

from tests.harness.fixtures import backend, loop_factories

__all__ = ["backend", "pytest_asyncio_loop_factories"]

pytest_asyncio_loop_factories = loop_factories
