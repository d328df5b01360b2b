"""How long garbage collections pause the process, by generation (`gc.callbacks`)."""

from __future__ import annotations

import gc
import time
from typing import Any

from tidegate.core.bounds import PAUSE_S
from tidegate.core.histogram import Histogram


class GcPauses:
    """Measures between `start` and `stop`; both may be called any number of times."""

    def __init__(self) -> None:
        self._histograms = tuple(Histogram(PAUSE_S) for _ in gc.get_count())
        self._began = 0.0

    def start(self) -> None:
        """Begin."""
        if self._told not in gc.callbacks:
            gc.callbacks.append(self._told)

    def stop(self) -> None:
        """Listen no more."""
        if self._told in gc.callbacks:
            gc.callbacks.remove(self._told)

    def by_generation(self) -> dict[str, Histogram]:
        """Pauses in seconds, by the oldest generation collected."""
        return {str(number): one for number, one in enumerate(self._histograms)}

    def _told(self, phase: str, info: dict[str, Any]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        elif self._began:
            self._histograms[info["generation"]].observe(time.perf_counter() - self._began)
            self._began = 0.0
