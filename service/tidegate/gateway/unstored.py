"""Updates that are in no stream, because Redis is away: for the viewers of this replica only.

They have no id, so nobody can resume from them and no later viewer sees them; whoever sends one is
told how few it reached.
"""

from __future__ import annotations

import orjson

from tidegate.gateway.hub import Hub
from tidegate.model.frames import text_frame
from tidegate.model.ids import OperationId


def unstored_frame(operation: OperationId, message: bytes) -> bytes:
    """The frame of a message; like an entry's, but without an id."""
    return text_frame(orjson.dumps({"operation": operation, **orjson.loads(message)}))


def say_unstored(hub: Hub, operation: OperationId, wire: bytes) -> int:
    """Send it to those who watch the operation here and are not behind; how many."""
    audience = hub.audiences.get(operation)
    if audience is None:
        return 0
    audience.say(wire)
    return len(audience.live)
