"""Tidegate: viewers watch long-running operations live, on any number of replicas.

Layers point one way and import-linter checks it:
cli > runtime | embed | integrations > gateway | client > web | redis | telemetry > core > model.

The Python client is here by name, and imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidegate.client.async_publisher import AsyncPublisher
    from tidegate.client.feed import FeedViewer
    from tidegate.client.publisher import Publisher
    from tidegate.client.stopping import OperationCancelled
    from tidegate.client.viewer import Viewer
    from tidegate.model.errors import TidegateError

__all__ = [
    "AsyncPublisher",
    "FeedViewer",
    "OperationCancelled",
    "Publisher",
    "TidegateError",
    "Viewer",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "AsyncPublisher": "tidegate.client.async_publisher",
    "FeedViewer": "tidegate.client.feed",
    "OperationCancelled": "tidegate.client.stopping",
    "Publisher": "tidegate.client.publisher",
    "TidegateError": "tidegate.model.errors",
    "Viewer": "tidegate.client.viewer",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
