"""Authorization of viewers: the operation source."""

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
    """Authorization of viewers: what decides who may subscribe to an operation, and its cache."""

    group_name = "source"

    kind: Annotated[
        Literal["none", "claims", "http", "redis", "callable"] | None,
        Field(
            description="What decides whether a user may subscribe to an operation: the token "
            "(`claims`), the backend (`http`), a hash in Redis (`redis`), a Python function "
            "(`callable`) or nothing (`none`). No default with `server.auth` = jwt: `none` lets "
            "every authenticated user subscribe to everything."
        ),
    ] = None
    url: Annotated[
        HttpUrl | None,
        Field(
            description="For `http`: the gateway requests `GET <url>/<operation_id>` with the "
            "viewer's token. 200 (with a JSON object as state, or empty) or 204: allowed; 401, "
            "403: forbidden; 400, 404, 410, 422: no such operation; anything else: authorization "
            "is temporarily unavailable, and the viewer is asked to retry later."
        ),
    ] = None
    ca_file: Annotated[
        Path | None,
        Field(description="PEM file of the CA that signed the certificate of the backend."),
    ] = None
    function: Annotated[
        _FunctionName | None,
        Field(
            description="For `callable`: `module:function`, an async function. It is called with "
            "user and operation; it returns the state or None, or raises PermissionError or "
            "LookupError."
        ),
    ] = None
    redis_prefix: Annotated[
        Word,
        Field(
            description="For `redis`: prefix of hash keys; followed by the operation id. Fields: "
            "`owner` (a user), `users` (a JSON list, or `*`), `status`, `state` (a JSON object), "
            "`may_cancel` (like `users`)."
        ),
    ] = "operation:"
    timeout_s: Annotated[
        float,
        Field(
            ge=0.01,
            le=60,
            description="Longest wait for an answer; it delays the first frame of the viewer.",
        ),
    ] = 2.0
    #: Maximum size of an answer; it becomes part of one frame.
    max_state_bytes: Constant[int] = 65_536
    cache_s: Annotated[
        float,
        Field(
            ge=0,
            le=3_600,
            description="For `http`: how long an answer is cached for the same user, token and "
            "operation; 0 disables the cache. During a rollout all viewers reconnect at once.",
        ),
    ] = 5.0
    #: Maximum number of cached answers; the oldest are dropped.
    cache_entries: Constant[int] = 10_000
    #: For `http`: maximum number of concurrent requests to the backend, and a quarter of them for
    #: one user; others wait, which counts towards `timeout_s`.
    max_requests: Constant[int] = 32
    #: For `http`: the circuit breaker opens after consecutive failures for this many users. With 1,
    #: a single user could open it for all others.
    breaker_failures: Constant[int] = 5
    #: For `http`: how long the circuit breaker stays open before it tries again, one request at a
    #: time and one for each user.
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
