"""Upper bounds of the buckets of every histogram: one table, so that what belongs together can be
compared.
"""

from __future__ import annotations

#: Latencies in seconds: 0.1 ms to 60 s, three a decade.
LATENCY_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
#: Stops of the process or of its loop, in seconds.
PAUSE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: Entries that a viewer is sent before it is live.
REPLAY_ENTRIES = (0.0, 1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 100_000.0)
#: A user's connections over the limit.
SLOT_USE = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
