"""What figures and limits of a Redis server mean for a gateway: pure, for `examination`.

The thresholds say where viewers begin to notice; they are not limits of the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidegate.model.findings import Finding, FindingLevel

#: Redis' own defaults, for which the gateway is made (docs/architecture.md, "Bytes in flight").
PUBSUB_HARD_BYTES = 32 * 1_048_576
PUBSUB_SOFT_BYTES = 8 * 1_048_576
#: Each entry crosses the network twice, so a round trip of this length is felt.
LATENCY_NOTED_S = 0.005
#: Dispatch is then slower than people notice a delay in what they watch.
LATENCY_SLOW_S = 0.1
CLOCK_NOTED_S = 1.0
MEMORY_NOTED = 0.8


def eviction(where: str, info: Mapping[str, str]) -> Finding:
    """Of `INFO memory`: whether Redis may delete streams, and whether it is nearly full."""
    policy = info.get("maxmemory_policy", "")
    limit, used = _number(info.get("maxmemory")), _number(info.get("used_memory"))
    if not policy or limit is None or used is None:
        return Finding(
            *(where, "eviction", FindingLevel.UNKNOWN, "INFO memory is not permitted"),
            "check that maxmemory-policy is noeviction",
        )
    if limit == 0:
        found = f"{policy}, no limit (maxmemory 0)"
        return Finding(where, "eviction", FindingLevel.OK, found)
    found = f"{policy}, {used / limit:.0%} of {_size(limit)} in use"
    if policy.startswith("allkeys-"):
        advice = "set maxmemory-policy to noeviction: Redis may delete streams that are watched"
        return Finding(where, "eviction", FindingLevel.FAILED, found, advice)
    if policy != "noeviction":
        advice = (
            "set maxmemory-policy to noeviction: Redis may delete finished streams, slots and "
            "leases before their time"
        )
        return Finding(where, "eviction", FindingLevel.WARNING, found, advice)
    if used > MEMORY_NOTED * limit:
        advice = "raise maxmemory, or let the operator remove streams sooner: XADD fails when full"
        return Finding(where, "eviction", FindingLevel.WARNING, found, advice)
    return Finding(where, "eviction", FindingLevel.OK, found)


def output_buffer(where: str, limits: str | None) -> Finding:
    """Of `client-output-buffer-limit`: four values for each class of clients."""
    words = (limits or "").split()
    classes = {words[at]: words[at + 1 : at + 4] for at in range(0, len(words) - 3, 4)}
    numbers = [_number(text) for text in classes.get("pubsub", ())]
    if len(numbers) != 3 or None in numbers:
        return Finding(
            *(where, "output buffer", FindingLevel.UNKNOWN, "CONFIG GET is refused"),
            "no change needed with the server's default, `pubsub 32mb 8mb 60`; less closes the "
            "connection of a replica under load",
        )
    hard, soft, seconds = (number or 0 for number in numbers)
    found = f"pubsub {_size(hard)} hard, {_size(soft)} soft for {seconds} s"
    if 0 < hard < PUBSUB_HARD_BYTES or 0 < soft < PUBSUB_SOFT_BYTES:
        advice = "CONFIG SET client-output-buffer-limit 'pubsub 32mb 8mb 60'"
        return Finding(where, "output buffer", FindingLevel.WARNING, found, advice)
    return Finding(where, "output buffer", FindingLevel.OK, found)


def clock(where: str, offset_s: float | None) -> Finding:
    """The server's clock minus this machine's."""
    if offset_s is None:
        advice = "allow `+time` to the gateway's user"
        return Finding(where, "clock", FindingLevel.UNKNOWN, "TIME is refused", advice)
    found = f"{offset_s * 1000:+.0f} ms from this machine's"
    if abs(offset_s) < CLOCK_NOTED_S:
        return Finding(where, "clock", FindingLevel.OK, found)
    advice = (
        "run NTP on both machines: latencies are corrected by the difference, but timestamps of "
        "entries and the expiry of tokens are not"
    )
    return Finding(where, "clock", FindingLevel.WARNING, found, advice)


def latency(where: str, trips_s: Sequence[float]) -> Finding:
    """Of round trips in rising order."""
    median, longest = trips_s[len(trips_s) // 2], trips_s[-1]
    found = f"{median * 1000:.1f} ms median, {longest * 1000:.1f} ms longest of {len(trips_s)}"
    if median < LATENCY_NOTED_S:
        return Finding(where, "latency", FindingLevel.OK, found)
    far = "run gateway and Redis in the same region" if median > LATENCY_SLOW_S else ""
    advice = far or "an update takes two round trips to a viewer: run both in the same zone"
    return Finding(where, "latency", FindingLevel.WARNING, found, advice)


def _number(text: str | None) -> int | None:
    usable = text is not None and text.isascii() and text.isdigit() and len(text) < 20
    return int(text) if usable and text is not None else None


def _size(value: float) -> str:
    if value == 0:
        return "no limit"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}"
