"""The stage of the operator's tests, for the proof of its board."""

from tests.operator.conftest import stage

__all__ = ["stage"]
