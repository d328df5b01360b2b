"""What a viewer gets, may send, and costs at most."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group


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
            description="Most entries of history that a viewer may ask for.",
        ),
    ] = 10_000
    page_entries: Annotated[
        int,
        Field(
            ge=1,
            le=10_000,
            description="Entries of one read while a viewer is caught up: what one catch-up may "
            "cost Redis and memory at a time.",
        ),
    ] = 500
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
    high_water_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="With more than this unsent the viewer is lagging: it is no longer "
            "written to, only its cursor is kept.",
        ),
    ] = 65_536
    low_water_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=64 * 1_048_576,
            description="With less than this unsent a lagging viewer is caught up. Set, because "
            "the event loop's own mark may be a few bytes.",
        ),
    ] = 16_384
    notsent_lowat_bytes: Annotated[
        int,
        Field(
            ge=0,
            le=64 * 1_048_576,
            description="TCP_NOTSENT_LOWAT of viewer sockets; 0 leaves the system's. Without it "
            "the kernel hides megabytes of a stuck viewer's lag.",
        ),
    ] = 16_384
    max_message_bytes: Annotated[
        int,
        Field(
            ge=125,
            le=16 * 1_048_576,
            description="Longest message a viewer may send; viewers have little to say.",
        ),
    ] = 65_536
    messages_per_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=100_000,
            description="Messages per second that one viewer may send, before it is closed.",
        ),
    ] = 50.0
    ping_interval_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="Server pings: they find half-open connections and keep proxies (often "
            "60 s of patience) from closing quiet ones.",
        ),
    ] = 20.0
    ping_timeout_s: Annotated[
        float,
        Field(ge=0.1, le=3_600, description="A ping unanswered for this long ends the connection."),
    ] = 20.0
    close_timeout_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=600,
            description="Longest wait for the other side of a close before the socket is cut.",
        ),
    ] = 5.0
    max_watches: Annotated[
        int,
        Field(
            ge=1,
            le=100_000,
            description="Most operations on one multiplexed socket (`/ws`). 128 are more than a "
            "page shows, and few enough to be caught up in moments.",
        ),
    ] = 128
    sse_heartbeat_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=3_600,
            description="A quiet server-sent event stream gets a comment this often: it keeps "
            "proxies from closing it, and finds half-open connections. 15 s, as the HTML standard "
            "suggests.",
        ),
    ] = 15.0
    sse_retry_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="How long a browser's EventSource waits before it reconnects; each stream "
            "is told half to one and a half times as much, so that they do not all come at once.",
        ),
    ] = 2.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("low_water_bytes", "<", "high_water_bytes")
        self._require("history_entries", "<=", "history_max_entries")
        return self
