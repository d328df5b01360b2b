"""The resolution of the event loop's clock: that of uvloop counts milliseconds and rounds timers.

A timer may therefore fire up to half a millisecond early. Setting it again for the same moment
would call it back at once, repeatedly, until the clock has advanced.
"""

from __future__ import annotations

#: A timer treats everything that is due within this time as due.
TICK_S = 0.001
