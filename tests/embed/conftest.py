"""The same application as in tests/seed."""

from tests.seed.conftest import app, backend, pytest_asyncio_loop_factories

__all__ = ["app", "backend", "pytest_asyncio_loop_factories"]
