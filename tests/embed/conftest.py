"""The same application as in tests/seed."""

from tests.seed.conftest import app, backend, patient_joins, pytest_asyncio_loop_factories

__all__ = ["app", "backend", "patient_joins", "pytest_asyncio_loop_factories"]
