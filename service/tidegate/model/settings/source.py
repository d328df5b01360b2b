"""Who may watch an operation: the operation source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from tidegate.model.settings.group import Group, rule_broken
from tidegate.model.settings.values import Constant, HttpUrl, Word, pattern

_FunctionName = Annotated[
    str,
    pattern(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$", "such as package.module:function"),
]


class SourceSettings(Group):
    """What a viewer may watch: who is asked, and how long the answer holds."""

    group_name = "source"

    kind: Annotated[
        Literal["none", "claims", "http", "redis", "callable"] | None,
        Field(
            description="Who says whether a user may watch an operation: the token itself "
            "(`claims`), the backend (`http`), a hash in Redis (`redis`), a Python function "
            "(`callable`) or nobody (`none`). No default with `server.auth` = jwt: `none` lets "
            "everybody who is signed in watch everything."
        ),
    ] = None
    url: Annotated[
        HttpUrl | None,
        Field(
            description="For `http`: `GET <url>/<operation_id>` is sent with the viewer's token. "
            "200 (with a JSON object as state, or empty) or 204: may watch; 401, 403: may not; "
            "400, 404, 410, 422: no such operation; all else: cannot tell, so the viewer comes "
            "back later."
        ),
    ] = None
    ca_file: Annotated[
        Path | None, Field(description="PEM file of the authority that signed the backend.")
    ] = None
    function: Annotated[
        _FunctionName | None,
        Field(
            description="For `callable`: `module:function`, async. Gets user and operation; "
            "returns the state or None, or raises PermissionError or LookupError."
        ),
    ] = None
    redis_prefix: Annotated[
        Word,
        Field(
            description="For `redis`: put before an operation id to make the name of its hash. "
            "Its fields: `owner` (a user), `users` (a JSON list, or `*`), `status`, `state` (a "
            "JSON object)."
        ),
    ] = "operation:"
    timeout_s: Annotated[
        float,
        Field(
            ge=0.01,
            le=60,
            description="Longest wait for an answer; the viewer waits for its first frame.",
        ),
    ] = 2.0
    #: Largest answer; it becomes part of one frame.
    max_state_bytes: Constant[int] = 65_536
    cache_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="For `http`: an answer holds this long for the same user, token and "
            "operation; 0 asks every time. A deploy brings all viewers back at once.",
        ),
    ] = 5.0
    #: Most answers kept; the oldest give way.
    cache_entries: Constant[int] = 10_000
    #: For `http`: most requests to the backend at a time, and a quarter of them for one user;
    #: others wait, as part of `timeout_s`.
    max_requests: Constant[int] = 32
    #: For `http`: after failures in a row for so many users the backend is left alone. With 1, a
    #: single user can do that to all others.
    breaker_failures: Constant[int] = 5
    #: For `http`: how long it is left alone before requests try again, one at a time and one for
    #: each user.
    breaker_open_s: Constant[float] = 5.0

    @model_validator(mode="after")
    def _rules(self) -> Self:
        for kind, field in (("http", "url"), ("callable", "function")):
            if self.kind == kind and getattr(self, field) is None:
                raise rule_broken("source.kind", kind, f"needs source.{field}")
        for reserved in ("tidegate:", "tidegate/", "{tidegate}"):
            if self.redis_prefix.startswith(reserved):
                raise rule_broken(
                    "source.redis_prefix",
                    self.redis_prefix,
                    f"must not start with {reserved}, where the gateway keeps its own keys",
                )
        return self
