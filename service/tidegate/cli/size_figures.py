"""What `tidegate size` computes with: measured figures, each with its source.

All of them were measured on one machine (AMD EPYC, a virtual machine with 2 cores, CPython 3.11,
Valkey 9.1) and are in docs/performance.md; a test holds each against that page. A core of another
machine may be twice as fast: `python -m bench.size` prints the factor for `--cpu-scale`.
"""

from __future__ import annotations

from typing import Final

# `python -m bench -s 1x2000 -s 100x10 -s 200x10 -s 1000x1 --rounds 3 --seconds 3 --centrifugo`,
# 27 November 2026. Other programs used 0.1 to 0.3 of a core.

#: CPU of a replica for each frame to a viewer. `1x2000`, where an entry has 2,000 viewers, so that
#: its own cost is no part of it.
DELIVERY_US: Final = 12.5
#: What coalescing depends on: up to so many entries per second each is processed alone.
SINGLE_ENTRIES_PER_S: Final = 1_000
#: CPU of a replica for each of these. `200x10`: 45.5 us for each of ten deliveries, without theirs.
SINGLE_ENTRY_US: Final = 330.0
#: CPU for each entry above. `1000x1`: 114 us at 5,000 per second, without 1,000 single ones.
FURTHER_ENTRY_US: Final = 44.4
#: CPU of Redis, `XADD` included. `200x10`.
REDIS_SINGLE_ENTRY_US: Final = 192.0
#: `1000x1`: 94 us at 5,000 per second, without 1,000 single ones.
REDIS_FURTHER_ENTRY_US: Final = 69.5
#: Of the two costs above, for each replica beyond the first that has viewers of the operation.
#: `replicas`: ten replicas cost at most 1.8 times as much as one (0.56 to 1.8 in all runs).
REDIS_FURTHER_REPLICA: Final = 0.089
#: Connects per second of a core, with tokens and connection limits. `connects-jwt`, `-s connects
#: -s connects-jwt -s join -s idle ... --rounds 3 --seconds 3` on the same day.
CONNECTS_PER_S: Final = 1_064

# `python -m bench.memory`, 29 November 2026.

REPLICA_BYTES: Final = 92_500_000
CONNECTION_BYTES: Final = 8_640
#: With viewers on the replica, without its replay buffer.
OPERATION_BYTES: Final = 5_740
REDIS_BYTES: Final = 2_420_000
#: With one entry, its consumer group and its consumer.
REDIS_OPERATION_BYTES: Final = 4_370
#: In addition to the text of an entry.
REDIS_ENTRY_EXTRA_BYTES: Final = 10
#: Of a replica, to each primary.
REDIS_CONNECTIONS: Final = 5

# Not measured, but computed.

#: Around the data of an entry: id, operation, timestamp and type as JSON, and the WebSocket header.
FRAME_EXTRA_BYTES: Final = 60
#: Of one packet: IPv4, TCP with timestamps, and one TLS record.
PACKET_EXTRA_BYTES: Final = 74
#: Around the entries of a relay message.
RELAY_EXTRA_BYTES: Final = 120

# Chosen.

#: Redis runs commands on one core; above this share of it latency rises.
REDIS_CORE_SHARE: Final = 0.7
#: Of memory: a burst of 200 viewers with 80 MB of history took 69 MiB for its time.
MEMORY_SPARE_BYTES: Final = 128 * 2**20
