"""What a task reporter needs of Redis beyond an append: not to end twice, and to count parts.

An operation may be ended by several: the worker, who supervises it, a user. Only the first end
counts. Whether it has ended is what its stream says (the newest entry that sets a status), read
and then written on the condition that nothing was added in between.

An operation of many tasks has a hash beside its stream with the fraction of each; it expires with
the stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

from tidegate.core.writes import Appended, IdempotencyKey, Outcome
from tidegate.model.entries import Entry, RawEntry, TerminalRules, read_entry
from tidegate.model.errors import RedisUnavailable
from tidegate.model.folded_state import STARTED_TYPE
from tidegate.model.ids import ZERO, OperationId, stream_id
from tidegate.redis import lua
from tidegate.redis.appending import CALLERS, OnceBounds, SyncAppender
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.names import same_slot
from tidegate.redis.replies import read_page

#: How far back a status is looked for: what follows an end are at most late updates.
NEWEST_MAX = 100
NEWEST_MAX_BYTES = 1_048_576
_ENTRY_MAX_BYTES = 65_536
#: Others write in between at most so often before the call gives up, and is made again later.
TRIES = 20
PARTS_MAX = 10_000
_RULES: Final = TerminalRules()


class Parts(NamedTuple):
    """Of all parts of an operation: the sum of their fractions, and how many are complete."""

    sum: float
    complete: int


class ReportAppender(SyncAppender):
    """As `SyncAppender`."""

    def append_unless_ended(
        self,
        operation: OperationId,
        texts: Sequence[bytes],
        *,
        before: int = 0,
        once: IdempotencyKey | None = None,
        bounds: OnceBounds = CALLERS,
    ) -> Appended | None:
        """Append, all or nothing; None where the operation has ended already, or with `before` an
        attempt of this or a higher number has started.

        Raises:
            RedisUnavailable: nothing was written. Its kind WriteUncertain: perhaps it was.
            StreamUnusable: the key holds something else.
        """
        ends = _ends(texts[-1])
        for _ in range(TRIES):
            newest, last = self._newest(operation)
            if last is not None and _is_over(last, before):
                return None
            done = self.append(operation, texts, once=once, newest=newest, bounds=bounds, ends=ends)
            if done.outcome is not Outcome.MOVED:
                return done
        raise RedisUnavailable(f"others write to operation {operation} all the time")

    def count_part(self, operation: OperationId, part: str, fraction: float, ttl_s: int) -> Parts:
        """How far one part is; how far all of them are with it.

        Raises:
            RedisUnavailable: it may have been counted; it may be counted again.
        """
        keys = (f"{same_slot(self._call.key(operation))}:parts",)
        arguments = (part, repr(fraction), PARTS_MAX, ttl_s)
        try:
            total, complete = lua.run_blocking(self._client, lua.PART, keys, arguments)
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None
        return Parts(float(total), int(complete))

    def _newest(self, operation: OperationId) -> tuple[str, Entry | None]:
        """The id of the newest entry (empty without a stream), and the newest one with a status."""
        arguments = (NEWEST_MAX, NEWEST_MAX_BYTES, _ENTRY_MAX_BYTES)
        try:
            reply = lua.run_blocking(
                self._client, lua.NEWEST, (self._call.key(operation),), arguments
            )
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None
        page = read_page(_in_bytes(reply), None)
        if not page.info.exists:
            return "", None
        entries = (read_entry(stream_id(raw.id), raw) for raw in page.entries)
        return str(page.info.last), _RULES.deciding(entries)


def _ends(text: bytes) -> bool:
    """Whether the operation ends with this message: nobody has to be asked to cancel it then."""
    return _RULES.is_terminal(read_entry(ZERO, RawEntry(b"", [b"message", text])))


def _is_over(last: Entry, before: int) -> bool:
    if _RULES.is_terminal(last):
        return True
    if not before or last.type != STARTED_TYPE:
        return False
    try:
        data = orjson.loads(last.data)
        return isinstance(data, dict) and int(data.get("attempt", 1)) >= before
    except (ValueError, TypeError):
        return False


def _in_bytes(reply: Any) -> Any:
    """The client decodes replies; entries are read from bytes."""
    if isinstance(reply, str):
        return reply.encode(errors="surrogateescape")
    if isinstance(reply, list):
        return [_in_bytes(one) for one in reply]
    return reply
