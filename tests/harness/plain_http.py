"""A client of plain HTTP for tests.

httpx loads all authorities of the world for each client, 40 ms of CPU in which a replica in this
process stands still, too. Nothing here speaks TLS, so none are loaded. The timeout has room for a
machine that stands still.
"""

from __future__ import annotations

from typing import Any

import httpx

TIMEOUT_S = 20.0


def plain_client(base_url: str = "", **options: Any) -> httpx.AsyncClient:
    """An async context manager, as `httpx.AsyncClient` is; with its options."""
    return httpx.AsyncClient(base_url=base_url, verify=False, **{"timeout": TIMEOUT_S, **options})
