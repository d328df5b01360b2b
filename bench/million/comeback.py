"""When a viewer comes back, by the rules of the clients (`tidegate.client.watching`). Pure.

A viewer of the bench is some bytes in arrays, so it cannot have an object with these rules; the
constants, the bound and the table of close codes are the clients' own.
"""

from collections.abc import Callable

from tidegate.client.watching import ASKED_DELAY_MAX_S, LATER_DELAY_S, delay_bound_s
from tidegate.model.close_codes import ComeBack, come_back

Uniform = Callable[[float, float], float]


def after_close_s(
    code: int, *, failures: int, asked_ms: int | None, uniform: Uniform
) -> float | None:
    """Seconds until it connects again after a close (1006: without a code); None: never."""
    what = come_back(code)
    if what is ComeBack.NO:
        return None
    if asked_ms is not None:
        return min(max(0.0, asked_ms / 1000), ASKED_DELAY_MAX_S)
    least_s = LATER_DELAY_S if what is ComeBack.LATER else 0.0
    return least_s + uniform(0.0, delay_bound_s(failures))


def after_refusal_s(
    status: int | None, *, failures: int, retry_after_s: float, uniform: Uniform
) -> float | None:
    """The same when there was no WebSocket: no route (None), or an HTTP status."""
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return None
    return min(retry_after_s, ASKED_DELAY_MAX_S) + uniform(0.0, delay_bound_s(failures))
