"""The same application as in tests/legacy_contract."""

from tests.legacy_contract.conftest import (
    app,
    backend,
    patient_joins,
    pytest_asyncio_loop_factories,
)

__all__ = ["app", "backend", "patient_joins", "pytest_asyncio_loop_factories"]
