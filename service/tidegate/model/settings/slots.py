"""How many connections a user may have over all replicas."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group, rule_broken


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
    wait_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=30,
            description="Longest wait for Redis before it counts as away; a viewer waits this "
            "long at its connect.",
        ),
    ] = 2.0
    lease_s: Annotated[
        float,
        Field(
            ge=0.2,
            le=600,
            description="A replica that did not renew for this long is dead and its viewers' "
            "slots are free. 15 s outlives a slow failover.",
        ),
    ] = 15.0
    renew_s: Annotated[
        float,
        Field(
            ge=0.05,
            le=200,
            description="A replica renews its lease, and its view of the others, this often: at "
            "most a third of the lease, so that two lost renewals harm nobody.",
        ),
    ] = 5.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.renew_s > self.lease_s / 3 + 1e-9:
            raise rule_broken(
                "slots.renew_s",
                self.renew_s,
                f"must be at most a third of slots.lease_s ({self.lease_s})",
            )
        return self
