"""The clock of the event loop: uvloop's counts milliseconds, and rounds timers to them.

So a timer may ring half a millisecond before its time, and its time may not be a number of
milliseconds. Who sets the timer again then gets one that is due now, until the clock goes on.
"""

from __future__ import annotations

#: What is due within it is due now.
TICK_S = 0.001
