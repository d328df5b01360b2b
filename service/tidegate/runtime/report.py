"""What is going on in a replica: readiness, the numbers of the metrics, the state for people."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from tidegate import __version__
from tidegate.gateway.hub import Hub
from tidegate.model.settings import Settings
from tidegate.redis.feed import RedisFeed
from tidegate.redis.log import RedisLog
from tidegate.redis.pods import Pods
from tidegate.redis.slots import RedisSlots
from tidegate.telemetry.metrics import Numbers
from tidegate.web.admin import Readiness
from tidegate.web.admission import Admission
from tidegate.web.door import Door


class Report:
    """Reads the parts; changes nothing but `stopping`."""

    def __init__(
        self,
        settings: Settings,
        *,
        hub: Hub,
        feed: RedisFeed,
        log: RedisLog,
        door: Door,
        admission: Admission,
        pods: Pods,
        slots: RedisSlots,
    ) -> None:
        self._settings = settings
        self._hub = hub
        self._feed = feed
        self._log = log
        self._door = door
        self._admission = admission
        self._pods = pods
        self._slots = slots
        self._started = time.monotonic()
        self.stopping = False

    def readiness(self) -> Readiness:
        """Whether viewers may be sent here."""
        if self.stopping:
            return Readiness(ready=False, reason="stopping")
        if not self._feed.is_connected:
            return Readiness(ready=False, reason="redis is not connected")
        return Readiness(ready=True, reason="serving")

    def numbers(self) -> Numbers:
        """The values of the metrics, by name."""
        hub, totals = self._hub.stats(), self._hub.counters
        links = self._feed.stats()
        events: Counter[str] = Counter()
        for link in links:
            events.update(link.counts)
        return {
            "tidegate_operations": hub.operations,
            "tidegate_viewers": {
                "live": hub.live,
                "lagging": hub.lagging,
                "catching_up": hub.catching_up,
            },
            "tidegate_ring_bytes": hub.ring_bytes,
            "tidegate_outbox_items": hub.outbox_items,
            "tidegate_joins_total": totals.joins,
            "tidegate_deliveries_total": totals.deliveries,
            "tidegate_delivered_bytes_total": totals.bytes_sent,
            "tidegate_replayed_entries_total": totals.replayed_entries,
            "tidegate_skipped_entries_total": totals.skipped,
            "tidegate_buffers_full_total": totals.lagged,
            "tidegate_gaps_total": totals.gaps,
            "tidegate_malformed_entries_total": totals.malformed,
            "tidegate_closes_total": totals.closes,
            "tidegate_connections": len(self._door),
            "tidegate_refusals_total": self._door.refusals + self._admission.refusals,
            "tidegate_guests": len(self._admission),
            "tidegate_slots_held": self._slots.stats().connections,
            "tidegate_slot_events_total": self._slots.stats().counts,
            "tidegate_lease_held": int(self._pods.is_held),
            "tidegate_pods": self._pods.stats().pods,
            "tidegate_log_pages_total": self._log.pages,
            "tidegate_redis_connected": {link.node: int(link.connected) for link in links},
            "tidegate_redis_doorbell": {link.doorbell: 1 for link in links if link.connected},
            "tidegate_redis_streams_leading": sum(link.leading for link in links),
            "tidegate_redis_attach_backlog": sum(link.attach_backlog for link in links),
            "tidegate_redis_events_total": events,
        }

    def state(self) -> dict[str, Any]:
        """For people: no ids of users or operations, no tokens."""
        return {
            "pod": self._settings.server.pod,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started, 3),
            "readiness": self.readiness()._asdict(),
            "redis": {
                "deployment": self._feed.deployment.value,
                "primaries": [link._asdict() for link in self._feed.stats()],
            },
            "pod_lease": self._pods.stats()._asdict(),
            "slots": self._slots.stats()._asdict(),
            "numbers": self.numbers(),
        }
