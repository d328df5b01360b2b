"""Limits and behaviour of viewer connections."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant


class ViewerSettings(Group):
    """Viewer connections: history, lagging viewers, inbound limits, heartbeats."""

    group_name = "viewer"

    history_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Number of newest entries sent to a viewer that connects without a cursor "
            "and without `history`.",
        ),
    ] = 100
    history_max_entries: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description="Maximum number of history entries that a viewer may request; "
            "`history=all` sends this many of the newest, and `current_state` says how many of how "
            "many.",
        ),
    ] = 10_000
    #: Entries per read while a viewer catches up: bounds the cost of one catch-up for Redis and
    #: memory.
    page_entries: Constant[int] = 500
    lagging_policy: Annotated[
        Literal["conflate", "replay", "disconnect"],
        Field(
            description="What a viewer that reads too slowly receives: the latest of conflated "
            "types, with a `skipped` count, and all other entries (`conflate`); every entry "
            "(`replay`); or close 4408 (`disconnect`)."
        ),
    ] = "conflate"
    #: With the policy `disconnect`: how long the send buffer may stay full. As long as a network
    #: may be away without the connection being lost.
    lagging_timeout_s: Constant[float] = 30.0
    #: With more than this unsent a viewer is lagging: nothing more is written to it, and only its
    #: cursor is kept.
    high_water_bytes: Constant[int] = 65_536
    #: With less than this unsent a lagging viewer catches up. Set explicitly, because the default
    #: of the event loop may be a few bytes.
    low_water_bytes: Constant[int] = 16_384
    #: TCP_NOTSENT_LOWAT of viewer sockets; 0 leaves the system's. Without it the kernel buffers
    #: megabytes for a viewer that does not read.
    notsent_lowat_bytes: Constant[int] = 16_384
    #: Maximum size of a message from a viewer.
    max_message_bytes: Constant[int] = 65_536
    #: Maximum messages per second from one viewer; above it the viewer is closed.
    messages_per_s: Constant[float] = 50.0
    ping_interval_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Interval of WebSocket pings. They detect half-open connections and keep "
            "proxies (whose idle timeout is often 60 s) from closing quiet ones.",
        ),
    ] = 20.0
    #: How long a ping may stay unanswered before the connection is closed.
    ping_timeout_s: Constant[float] = 20.0
    #: Timeout of the closing handshake; after it the socket is aborted.
    close_timeout_s: Constant[float] = 5.0
    max_watches: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Maximum number of operations on one multiplexed socket (`/ws`). 128 are "
            "more than a page shows, and few enough to catch up quickly.",
        ),
    ] = 128
    #: Interval of comments on a quiet server-sent event stream: they keep proxies from closing it
    #: and detect half-open connections. 15 s, as the HTML standard suggests.
    sse_heartbeat_s: Constant[float] = 15.0
    #: Reconnect delay of a browser's EventSource; each stream is sent 0.5 to 1.5 times this value,
    #: so that they do not all reconnect at once.
    sse_retry_s: Constant[float] = 2.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("history_entries", "<=", "history_max_entries")
        return self
