"""The limit of connections per user over all replicas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant


class SlotSettings(Group):
    """The limit of connections per user over all replicas."""

    group_name = "slots"

    limit: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Maximum number of connections per user over all replicas, unless the "
            "token has a limit of its own; 0 means no limit. 10 allows several tabs on several "
            "devices.",
        ),
    ] = 10
    policy: Annotated[
        Literal["refuse", "replace_oldest"],
        Field(
            description="What happens at the limit: the new connection is refused with 4429 "
            "(`refuse`), or the user's oldest connection is closed with 4409 (`replace_oldest`)."
        ),
    ] = "refuse"
    when_redis_away: Annotated[
        Literal["open", "closed"],
        Field(
            description="While Redis is unavailable, new connections are counted per replica "
            "(`open`) or refused with 1013 (`closed`)."
        ),
    ] = "open"
    #: How long a connecting viewer waits for Redis before Redis is considered unavailable.
    wait_s: Constant[float] = 2.0
    lease_s: Annotated[
        float,
        Field(
            ge=0.2,
            le=600,
            description="Time without a renewal after which a replica is considered dead and the "
            "slots of its viewers are released. 15 s is longer than a slow failover.",
        ),
    ] = 15.0
    #: Maximum interval between two renewals of a replica's lease and of its view of the others.
    renew_s: Constant[float] = 5.0

    @property
    def renewal_s(self) -> float:
        """Interval between two renewals; two of three may fail without consequences."""
        return min(self.renew_s, self.lease_s / 3)
