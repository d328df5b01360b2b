"""Updates that are in no stream, because Redis is away: for the viewers of this replica only.

They have no id, so nobody can resume from them and no later viewer sees them; whoever sends one is
told how few it reached.
"""

from __future__ import annotations

import time

from tidegate.gateway.hub import Hub
from tidegate.model.entries import RawEntry, read_entry
from tidegate.model.frames import unstored_entry_frame
from tidegate.model.ids import OperationId, StreamId


def unstored_frame(operation: OperationId, message: bytes) -> bytes:
    """The frame of a message; like an entry's, but without an id."""
    now = StreamId(int(time.time() * 1000), 0)  # the time of a message that has none
    entry = read_entry(now, RawEntry(b"", [b"message", message]))
    return unstored_entry_frame(entry, operation.encode())


def say_unstored(hub: Hub, operation: OperationId, wire: bytes) -> int:
    """Send it to those who watch the operation here and are not behind; how many."""
    audience = hub.audiences.get(operation)
    if audience is None:
        return 0
    audience.say(wire)
    return len(audience.live)
