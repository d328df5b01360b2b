"""What a viewer gets, may send, and costs at most."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant


class ViewerSettings(Group):
    """One viewer's connection: history, lag, inbound bounds, heartbeats."""

    group_name = "viewer"

    history_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Newest entries sent to a viewer that comes without a cursor and does "
            "not ask for a number.",
        ),
    ] = 100
    history_max_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Most entries of history that a viewer may ask for, and the newest so many "
            "are what it gets for `history=all`; `current_state` says how many of how many.",
        ),
    ] = 10_000
    #: Entries of one read while a viewer is caught up: what one catch-up may cost Redis and memory
    #: at a time.
    page_entries: Constant[int] = 500
    lagging_policy: Annotated[
        Literal["conflate", "replay", "disconnect"],
        Field(
            description="What a viewer that reads too slowly gets: the latest of conflated "
            "types with a `skipped` count and all other entries (`conflate`), every entry "
            "(`replay`), or close 4408 (`disconnect`)."
        ),
    ] = "conflate"
    lagging_timeout_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="With the policy `disconnect`: a viewer whose buffer stays full for this "
            "long is closed with 4408.",
        ),
    ] = 30.0
    #: With more than this unsent the viewer is lagging: it is no longer written to, only its
    #: cursor is kept.
    high_water_bytes: Constant[int] = 65_536
    #: With less than this unsent a lagging viewer is caught up. Set, because the event loop's own
    #: mark may be a few bytes.
    low_water_bytes: Constant[int] = 16_384
    #: TCP_NOTSENT_LOWAT of viewer sockets; 0 leaves the system's. Without it the kernel hides
    #: megabytes of a stuck viewer's lag.
    notsent_lowat_bytes: Constant[int] = 16_384
    #: Longest message a viewer may send; viewers have little to say.
    max_message_bytes: Constant[int] = 65_536
    #: Messages per second that one viewer may send, before it is closed.
    messages_per_s: Constant[float] = 50.0
    ping_interval_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Server pings: they find half-open connections and keep proxies (often "
            "60 s of patience) from closing quiet ones.",
        ),
    ] = 20.0
    #: A ping unanswered for this long ends the connection.
    ping_timeout_s: Constant[float] = 20.0
    #: Longest wait for the other side of a close before the socket is cut.
    close_timeout_s: Constant[float] = 5.0
    max_watches: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most operations on one multiplexed socket (`/ws`). 128 are more than a "
            "page shows, and few enough to be caught up in moments.",
        ),
    ] = 128
    #: A quiet server-sent event stream gets a comment this often: it keeps proxies from closing
    #: it, and finds half-open connections. 15 s, as the HTML standard suggests.
    sse_heartbeat_s: Constant[float] = 15.0
    #: How long a browser's EventSource waits before it reconnects; each stream is told half to one
    #: and a half times as much, so that they do not all come at once.
    sse_retry_s: Constant[float] = 2.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("history_entries", "<=", "history_max_entries")
        return self
