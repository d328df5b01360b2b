"""One stream that this replica follows: its key, its listener, its doorbell policy, its ready-made
command.
"""

from __future__ import annotations

from tidegate.core.arming import Arming, ArmingRules
from tidegate.core.ports import StreamListener
from tidegate.core.records import Page
from tidegate.model.ids import OperationId


class StreamSubscription:
    """Belongs to one primary at a time."""

    __slots__ = (
        "armed",
        "arming",
        "asked_ns",
        "attached",
        "channel",
        "checks",
        "dispatch",
        "evicted",
        "exists",
        "is_far",
        "key",
        "left",
        "listener",
        "operation",
        "question",
        "registered",
        "relayed",
        "retry_s",
        "rules",
    )

    def __init__(
        self,
        operation: OperationId,
        key: bytes,
        listener: StreamListener,
        rules: ArmingRules,
        dispatch: bytes,
        *,
        channel: bytes,
    ) -> None:
        self.operation = operation
        self.key = key
        #: Where its entries are relayed: the key, or a name of this gateway's own.
        self.channel = channel
        self.listener = listener
        self.rules = rules
        #: The packed `dispatch` command of this stream.
        self.dispatch = dispatch
        self.arming = Arming(rules)
        #: The doorbell is armed and has not rung since.
        self.armed = False
        #: Entries that the last dispatch left behind, as far as the server could count them.
        self.left = 0
        self.attached = False
        #: There was a stream when it was looked at last; not known of one without entries.
        self.exists = False
        #: The server has ended the subscription while an attach was on its way.
        self.evicted = False
        #: What is to be read next is known to be more than the link may carry.
        self.is_far = False
        #: Whether an attach has made this replica's consumer; None when a page has told it.
        self.registered: bool | None = None
        #: Number of the page that is wanted now; an answer to an earlier one is dropped.
        self.question = 0
        #: When `dispatch` was called last (Unix time in ns), while entries are traced; 0 after its
        #: relay message has arrived.
        self.asked_ns = 0
        #: How often the periodic check has visited it.
        self.checks = 0
        #: The id of the newest entry in a relay message or in the reply to an empty dispatch.
        self.relayed = b""
        #: Wait before the next try after an error; 0 after a success.
        self.retry_s = 0.0

    def deliver(self, page: Page) -> None:
        """Give the listener a page, with what the attach before it has found."""
        registered, self.registered = self.registered, None
        self.exists = page.info.exists
        self.listener.on_page(page._replace(registered=registered))

    def reset(self) -> None:
        """The connection is a new one: nothing is armed, nobody is known to lead."""
        self.arming = Arming(self.rules)
        self.asked_ns = 0
        self.armed = False
        self.left = 0
        self.is_far = False
        self.question += 1
        self.attached = False
