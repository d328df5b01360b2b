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
            description="What a backend sends as `Authorization: Bearer`, at least 32 bytes. Give "
            "it by environment. Unset: nobody publishes over HTTP, the routes answer 403."
        ),
    ] = None
    previous_token: Annotated[
        Secret32 | None,
        Field(
            description="The token before this one, still taken: backends change over one by one."
        ),
    ] = None
    cap: Annotated[
        int,
        Field(
            ge=0,
            le=10_000_000,
            description="Entries kept in a stream, about (`MAXLEN ~`); 0 keeps all.",
        ),
    ] = 1_000
    ttl_s: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="A stream is gone this long after its last entry; 0 keeps it.",
        ),
    ] = 86_400
    max_body_bytes: Annotated[
        int,
        Field(
            ge=1_024,
            le=64 * 1_048_576,
            description="Longest request; a longer one is not read to its end (413).",
        ),
    ] = 1_048_576
    #: Most entries of one request. They are written in one step, in which Redis does nothing else:
    #: 500 are a few milliseconds.
    max_batch: Constant[int] = 500
    #: Longest time for a request's body to arrive (408).
    body_timeout_s: Constant[float] = 10.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        if self.previous_token is not None and self.token is None:
            raise rule_broken("publish.previous_token", "***", "needs publish.token beside it")
        return self
