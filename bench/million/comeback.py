"""When a viewer reconnects, by the rules of the clients (`tidegate.client.watching`). Pure.

A viewer of this benchmark is a few bytes in arrays, and has no object that could implement the
rules. The constants, the bound and the table of close codes are those of the clients.
"""

from collections.abc import Callable

from tidegate.client.watching import ASKED_DELAY_MAX_S, LATER_DELAY_S, delay_bound_s
from tidegate.model.close_codes import ComeBack, come_back

Uniform = Callable[[float, float], float]


def after_close_s(
    code: int, *, failures: int, asked_ms: int | None, uniform: Uniform
) -> float | None:
    """Seconds until a viewer reconnects after a close (1006: without a close frame); None: never.

    Args:
        code: the close code.
        failures: failures in a row so far.
        asked_ms: the delay that a `reconnect` frame asked for, if there was one.
        uniform: a random number between two bounds.
    """
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
    """The same if no WebSocket was opened: `status` is that of the HTTP response, or None."""
    if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
        return None
    return min(retry_after_s, ASKED_DELAY_MAX_S) + uniform(0.0, delay_bound_s(failures))
