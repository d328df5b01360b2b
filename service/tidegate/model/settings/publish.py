"""Publishing over HTTP."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from tidegate.model.settings.auth import Secret32
from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant


class PublishSettings(Group):
    """Publishing over HTTP, for backends that do not write to Redis themselves."""

    group_name = "publish"

    token: Annotated[
        Secret32 | None,
        Field(
            description="Token that backends send as `Authorization: Bearer`, at least 32 bytes. "
            "Set it by environment variable. Unset: publishing over HTTP is disabled, and its "
            "routes answer 403."
        ),
    ] = None
    previous_token: Annotated[
        Secret32 | None,
        Field(
            description="The previous token, still accepted, so that backends can be updated one "
            "by one."
        ),
    ] = None
    cap: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Approximate number of entries kept in a stream (`MAXLEN ~`); 0 keeps all.",
        ),
    ] = 1_000
    ttl_s: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="Time to live of a stream after its last entry; 0 means no expiry.",
        ),
    ] = 86_400
    max_body_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="Largest request body; a larger one is refused with 413 before it has "
            "been read.",
        ),
    ] = 1_048_576
    #: Maximum number of entries in one request. They are written atomically, and Redis is blocked
    #: meanwhile: 500 take a few milliseconds.
    max_batch: Constant[int] = 500
    #: Timeout for receiving a request body (408).
    body_timeout_s: Constant[float] = 10.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.previous_token is not None and self.token is None:
            raise rule_broken("publish.previous_token", "***", "needs publish.token")
        return self
