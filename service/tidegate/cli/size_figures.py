"""The figures of `tidegate size`, each with its source.

All of them were measured on one machine (AMD EPYC, a virtual machine with 2 cores, CPython 3.11,
Valkey 9.1) and are in docs/performance.md; a test holds each against that page. A core of another
machine may be twice as fast: `python -m bench.size` prints the factor for `--cpu-scale`.
"""

from __future__ import annotations

from typing import Final

# With the compiled engine on idle cores, 30 November 2026: `python -m bench.fleet_costs --rounds
# 3`, except for the costs of deliveries and entries on a replica: these are from
# `python -m bench -s 1x2000 -s 200x10 --centrifugo` on the same day, which found a tenth more.
# A cost of 0 could not be distinguished in those fleets: dispatching and re-arming are included in
# what a replica uses for an entry.

#: Microseconds of CPU, in the order of `size_costs.REPLICA_PARTS`.
REPLICA_US: Final = (5_550.0, 0.12, 4.9, 100.0, 0.0, 6.7, 0.0)
#: In the order of `size_costs.REDIS_PARTS`.
REDIS_US: Final = (2_200.0, 2.8, 102.0, 17.2, 10.9)
#: Up to this rate of entries per second, each entry is processed by itself.
SINGLE_ENTRIES_PER_S: Final = 1_000
#: The cost of an entry above that rate, as a share of a single one: on a replica, and in Redis.
FURTHER_SHARE: Final = 0.32
REDIS_FURTHER_SHARE: Final = 0.42
#: Connects per second of a core, with tokens and connection limits. `connects-jwt`, `-s connects
#: -s connects-jwt -s join --rounds 3 --seconds 3` on the same day.
CONNECTS_PER_S: Final = 4_482

# `python -m bench.memory`, 30 November 2026.

REPLICA_BYTES: Final = 94_900_000
#: Resident memory of the supervisor of two worker processes (`server.workers`).
SUPERVISOR_BYTES: Final = 68_500_000
CONNECTION_BYTES: Final = 2_670
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
