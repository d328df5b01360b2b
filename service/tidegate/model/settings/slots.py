"""How many connections a user may have over all replicas."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.model.settings.group import Group
from tidegate.model.settings.values import Constant


class SlotSettings(Group):
    """How many connections a user may have, over all replicas."""

    group_name = "slots"

    limit: Annotated[
        int,
        Field(
            ge=0,
            le=10_000,
            description="Connections per user over all replicas, unless the token says another "
            "number; 0 for no limit. 10: some tabs on some devices, and no more.",
        ),
    ] = 10
    policy: Annotated[
        Literal["refuse", "replace_oldest"],
        Field(
            description="At the limit the new connection is refused (4429), or the user's oldest "
            "is closed in its favour (4409)."
        ),
    ] = "refuse"
    when_redis_away: Annotated[
        Literal["open", "closed"],
        Field(
            description="While Redis is away new connections are counted on this replica only "
            "(`open`), or refused with 1013 (`closed`)."
        ),
    ] = "open"
    #: Longest wait for Redis before it counts as away; a viewer waits this long at its connect.
    wait_s: Constant[float] = 2.0
    lease_s: Annotated[
        float,
        Field(
            ge=0.2,
            le=600,
            description="A replica that did not renew for this long is dead and its viewers' "
            "slots are free. 15 s outlives a slow failover.",
        ),
    ] = 15.0
    #: Longest time between two renewals of a replica's lease and of its view of the others.
    renew_s: Constant[float] = 5.0

    @property
    def renewal_s(self) -> float:
        """Time between two renewals: two of three may be lost and harm nobody."""
        return min(self.renew_s, self.lease_s / 3)
