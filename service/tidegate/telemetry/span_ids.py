"""Ids of spans: random, but for those that another replica has to be able to name.

The replica that dispatches an entry and those that are relayed it know the same entry and the same
publisher's context, so all of them can work out the id of the dispatch span, and link to it without
a word more on the wire.
"""

from __future__ import annotations

import hashlib

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from tidegate.model.traceparent import TraceParent


class ChosenIds(RandomIdGenerator):
    """The next span gets `chosen`, once; all others a random id."""

    chosen = 0

    def generate_span_id(self) -> int:
        chosen, self.chosen = self.chosen, 0
        return chosen or super().generate_span_id()


def dispatch_span_id(publisher: TraceParent, entry_id: bytes) -> int:
    """The id of the span that dispatched this entry: 64 bits of BLAKE2b, never 0."""
    text = b"dispatch %032x %016x %b" % (publisher.trace_id, publisher.span_id, entry_id)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") or 1
