"""How long a case waits for what takes seconds where nothing else runs.

The nodes, their pods and the viewers share the machine with each other, and on a busy day with
compilers: a wait here ends with what it waits for, and its bound only says that this never comes.
How long something took goes into the report and is not judged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from tests.harness import waiting

PATIENCE_S = 240.0
#: The same for `kubectl wait`, `kubectl delete` and `helm`.
PATIENCE = f"{PATIENCE_S:g}s"


async def until(holds: Callable[[], object | Awaitable[object]], what: str) -> float:
    """Ask until the answer is true; how long that took, in seconds. AssertionError says `what`."""
    return await waiting.until(holds, what, within_s=PATIENCE_S)
