"""The port through which an operation is asked to stop, and its records.

To cancel is a request: it becomes an entry of the operation, which all viewers see, and a key that
the worker looks at. It is made once for each run of an operation, however often it is asked for,
and never behind the end of one.
"""

from __future__ import annotations

import enum
from typing import NamedTuple, Protocol

from tidegate.model.ids import OperationId

#: Of the entry that asks, and the status that it sets. It ends nothing.
CANCEL_TYPE = "cancel_requested"
CANCELLING = "cancelling"


class CancelOutcome(enum.Enum):
    """What became of the request."""

    REQUESTED = "requested"
    #: Someone had asked before, and the operation has not ended since.
    ALREADY_REQUESTED = "already_requested"
    ALREADY_ENDED = "already_ended"
    NO_STREAM = "no_stream"
    #: It was written to all the time by entries that may have ended it.
    BUSY = "busy"


#: What else becomes of a viewer's request, before it is made or while it is.
FORBIDDEN, LIMITED, REFUSED, FAILED = "forbidden", "rate_limited", "refused", "failed"
OUTCOMES = (*(one.value for one in CancelOutcome), FORBIDDEN, LIMITED, REFUSED, FAILED)


class CancelReply(NamedTuple):
    """The outcome, and the id of the entry that asks; empty where there is none."""

    outcome: CancelOutcome
    entry_id: str = ""


class Canceller(Protocol):
    """Asks workers to stop."""

    async def cancel(
        self, operation: OperationId, *, user: str | None = None, by: str = ""
    ) -> CancelReply:
        """Ask, unless that was done or the operation has ended; decided and written in one step.

        Args:
            user: shown to all viewers as who asks; None: nobody is named.
            by: whose turn at reading it is, as in `Ask.by`.

        Raises:
            RedisUnavailable: perhaps it was asked; to ask again is safe.
            StreamUnusable: the key holds something else.
        """
