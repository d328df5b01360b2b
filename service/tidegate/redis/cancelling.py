"""Asks workers to stop: an entry `cancel_requested` on the operation's stream, and a key beside it.

    {operation-progress:42}:cancel    the id of that entry; gone a day later, or when a publisher
                                      of ours, or of the HTTP API, ends the operation

Whether the operation has ended is read here, by the rules for entries, and the script writes only
while nothing has come since that may be an end. A key that is left of an earlier run counts for
nothing: an end stands behind its entry, or the stream is another one.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from tidegate.core.cancelling import CANCEL_TYPE, CANCELLING, CancelOutcome, CancelReply
from tidegate.core.records import PUBLISHER
from tidegate.model.entries import Entry, TerminalRules, read_entry
from tidegate.model.errors import SettingsError
from tidegate.model.ids import ZERO, OperationId, StreamId, stream_id
from tidegate.model.settings import Settings
from tidegate.model.times import iso_time
from tidegate.redis import lua
from tidegate.redis.concurrency import ConcurrencyLimiter
from tidegate.redis.errors import CLIENT_ERRORS, translate
from tidegate.redis.log import RedisLog
from tidegate.redis.names import cancel_key
from tidegate.redis.topology import Topology

#: A request that no worker has seen for so long is not meant for the next one.
KEY_TTL_S = 86_400
#: How far back the status of an operation is looked for.
NEWEST = 100
#: Entries that may come between the look and the write.
NEWER_MAX = 100
#: An operation that perhaps ends all the time is looked at so often.
TRIES = 5


def end_words(rules: TerminalRules) -> tuple[str, str]:
    """Statuses and types that end an operation, for the scripts; no word has a space in it."""
    return " ".join(sorted(rules.statuses)), " ".join(sorted(rules.types))


class RedisCanceller:
    """Implements `core.cancelling.Canceller`."""

    def __init__(self, topology: Topology, log: RedisLog, settings: Settings) -> None:
        self._topology = topology
        self._log = log
        self._turns = ConcurrencyLimiter(topology)
        self._prefix = settings.redis.key_prefix
        self._rules = settings.topic.terminal_rules()
        self._dispatch = (
            settings.redis.group,
            PUBLISHER,
            settings.dispatch.max_entries,
            settings.dispatch.max_bytes,
            settings.dispatch.max_entry_bytes,
        )

    async def cancel(
        self, operation: OperationId, *, user: str | None = None, by: str = ""
    ) -> CancelReply:
        """As the port has it."""
        beside = cancel_key(self._prefix + operation)
        if beside is None:
            raise SettingsError(
                ("redis.key_prefix: contains a brace, so no other key can be in a stream's slot",)
            )
        for _ in range(TRIES):
            seen = await self._still_runs(operation, by or operation)
            if isinstance(seen, CancelOutcome):
                return CancelReply(seen)
            outcome, entry_id = await self._ask(operation, beside, seen, user)
            match outcome:
                case "added":
                    return CancelReply(CancelOutcome.REQUESTED, entry_id)
                case "known":
                    return CancelReply(CancelOutcome.ALREADY_REQUESTED, entry_id)
                case "missing":
                    return CancelReply(CancelOutcome.NO_STREAM)
        return CancelReply(CancelOutcome.BUSY)

    async def _still_runs(self, operation: OperationId, by: str) -> StreamId | CancelOutcome:
        """The newest entry of an operation that has not ended by then."""
        deciding: Entry | None = None
        seen = ZERO
        async with self._log.turn(operation, by) as pages:
            info, after = await pages.locate(operation, NEWEST)
            if not info.exists:
                return CancelOutcome.NO_STREAM
            more = True
            while more:
                page = await pages.after(operation, after)
                entries = [read_entry(stream_id(raw.id), raw) for raw in page.entries]
                deciding = self._rules.deciding(entries) or deciding
                seen = entries[-1].id if entries else seen
                more, after = page.more and bool(page.entries), seen
        if deciding is not None and self._rules.is_terminal(deciding):
            return CancelOutcome.ALREADY_ENDED
        return seen

    async def _ask(
        self, operation: OperationId, beside: str, seen: StreamId, user: str | None
    ) -> tuple[str, str]:
        key = self._prefix + operation
        client: Any = self._topology.client
        arguments = (
            *self._dispatch,
            self._topology.names.relay(key.encode()),
            str(seen),
            KEY_TTL_S,
            *end_words(self._rules),
            NEWER_MAX,
            _message(user),
        )
        try:
            async with self._turns.at(key):
                reply = await lua.run(client, lua.CANCEL, (key, beside), arguments)
        except CLIENT_ERRORS as error:
            raise translate(error, operation) from None
        outcome, entry_id = map(_text, reply)
        return outcome, entry_id


def _message(user: str | None) -> bytes:
    data = {"status": CANCELLING} if user is None else {"status": CANCELLING, "by": user}
    now = iso_time(datetime.now(UTC))
    return orjson.dumps({"timestamp": now, "type": CANCEL_TYPE, "data": data})


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
