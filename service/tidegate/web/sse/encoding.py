"""What only event streams have (HTML standard, section 9.2); frames become events in `model.batch`.

There is no `event:` line in front of a frame, so `onmessage` gets all of them; only `end` has one.
"""

from __future__ import annotations

import orjson

from tidegate.model.batch import Batch
from tidegate.model.close_codes import CloseCode


class _Comment(Batch):
    """No frame, and no event."""

    __slots__ = ()

    def events(self) -> bytes:
        """See `Batch`."""
        return b":\n\n"


#: What is sent when there is nothing to send.
HEART_BEAT: Batch = _Comment()


def retry_event(milliseconds: int) -> bytes:
    """Tells an EventSource how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds


def end_event(code: CloseCode) -> bytes:
    """The last event when there is nothing to come back for."""
    data = orjson.dumps({"type": "end", "data": {"code": code.code, "name": code.name}})
    return b"event: end\ndata: %b\n\n" % data
