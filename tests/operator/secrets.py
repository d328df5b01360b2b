"""Secrets of a namespace and a clock, for tests of the operator's connection to Redis."""

from __future__ import annotations

from typing import Any

from tidegate_operator.kube.errors import ApiNotFound
from tidegate_operator.settings import OperatorSettings, load_settings


class Secrets:
    def __init__(self) -> None:
        self.values: dict[str, dict[str, str]] = {}
        self.reads = 0

    async def secret(self, name: str) -> dict[str, str]:
        self.reads += 1
        if name not in self.values:
            raise ApiNotFound("no such secret", 404)
        return self.values[name]


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def settings(**fields: Any) -> OperatorSettings:
    return load_settings({"namespace": "one", "identity": "me", **fields}, {})
