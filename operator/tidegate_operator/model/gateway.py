"""The Gateway resource: group, kind and `spec`.

`spec.replicas` is what `kubectl scale gateway` writes. In mode `none` it is the number of pods. In
mode `internal` it is a floor between `scaling.min` and `scaling.max`: raising it takes effect at
once, lowering it lets the load decide again. In modes `hpa` and `keda` another one writes, so a
change is refused with a message instead of being passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from tidegate.model.errors import InvalidInput
from tidegate_operator.model.parts import CertificateOf, KeyOf, ObjectName, Part, Rule, whole
from tidegate_operator.model.scaling import Scaling
from tidegate_operator.model.streams import Streams

GROUP = "tidegate.dev"
VERSION = "v1alpha1"
KIND = "Gateway"
PLURAL = "gateways"


class Target(Part):
    """The Deployment whose pods are the gateway's replicas; it lives in the same namespace."""

    name: Annotated[ObjectName, Field(description="Name of the Deployment.")]


class Rebalance(Part):
    """Sending viewers of over-full pods away, so that they come back on emptier ones."""

    enabled: Annotated[bool, Field(strict=True, description="Whether it is done.")] = True
    tolerance_percent: Annotated[
        int,
        whole(
            1,
            1_000,
            "It ends when no pod has more than so much above the mean, and begins at one and a "
            "half times that.",
        ),
    ] = 10
    rate_per_s: Annotated[
        int, whole(1, 10_000, "Viewers sent away in a second, over all pods, at the most.")
    ] = 50


class RedisSource(Part):
    """Where the gateway's Redis is. What is not given comes from the operator's own settings."""

    url: Annotated[
        str | None,
        Field(
            min_length=8,
            max_length=1_024,
            pattern=r"^(redis|rediss|redis\+sentinel|rediss\+sentinel|redis\+cluster|rediss\+cluster)://[!-~]+$",
            description="As the gateway's `redis.url`, without a password.",
        ),
    ] = None
    url_secret: Annotated[
        KeyOf | None, Field(description="The URL from a Secret, in place of `url`.")
    ] = None
    username: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="Name to log in with."),
    ] = None
    password_secret: Annotated[KeyOf | None, Field(description="The password.")] = None
    sentinel_username: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="Name to log in with at the Sentinels."),
    ] = None
    sentinel_password_secret: Annotated[
        KeyOf | None,
        Field(
            description="The password of the Sentinels themselves, which `passwordSecret` is not "
            "sent to."
        ),
    ] = None
    ca_secret: Annotated[
        KeyOf | None, Field(description="PEM certificates of the authority, for TLS.")
    ] = None
    certificate_secret: Annotated[
        CertificateOf | None,
        Field(description="Certificate to log in with, where TLS wants one of the client."),
    ] = None
    check_hostname: Annotated[
        bool, Field(description="Whether the server's certificate must name the host asked for.")
    ] = True

    rules = (
        Rule(
            "!(has(self.url) && has(self.urlSecret))",
            "redis.url and redis.urlSecret exclude each other: give one",
            ".urlSecret",
            lambda part: part.url is None or part.url_secret is None,
        ),
        Rule(
            "!has(self.url) || !self.url.contains('@')",
            "redis.url must not hold a login: use redis.username and redis.passwordSecret, or "
            "redis.urlSecret",
            ".url",
            lambda part: part.url is None or "@" not in part.url,
        ),
        Rule(
            "!has(self.sentinelUsername) || has(self.sentinelPasswordSecret)",
            "redis.sentinelUsername needs redis.sentinelPasswordSecret beside it",
            ".sentinelUsername",
            lambda part: (
                part.sentinel_username is None or part.sentinel_password_secret is not None
            ),
        ),
    )


class GatewaySpec(Part):
    """What is wanted of a gateway: how many pods, and what becomes of its streams."""

    target: Annotated[Target, Field(description="The Deployment of the gateway. Immutable.")]
    replicas: Annotated[
        int,
        whole(
            0,
            1_000,
            "What `kubectl scale gateway` writes. Mode `none`: the number of pods. Mode "
            "`internal`: never fewer than this, between `scaling.min` and `scaling.max`. Modes "
            "`hpa` and `keda`: without effect.",
        ),
    ] = 1
    scaling: Annotated[Scaling, Field(description="How many pods there are.")] = Scaling()
    rebalance: Annotated[Rebalance, Field(description="Evening out viewers over the pods.")] = (
        Rebalance()
    )
    streams: Annotated[Streams, Field(description="What becomes of old streams.")] = Streams()
    redis: Annotated[RedisSource, Field(description="Where Redis is.")] = RedisSource()

    rules = (
        Rule(
            "self.target.name == oldSelf.target.name",
            "target.name is immutable: make a new Gateway for another Deployment, and delete this "
            "one first",
            ".target",
            None,
        ),
        Rule(
            "!(self.scaling.mode in ['hpa', 'keda']) || self.scaling.mode != oldSelf.scaling.mode "
            "|| self.replicas == oldSelf.replicas",
            "replicas has no effect in modes hpa and keda: change scaling.min and scaling.max",
            ".replicas",
            None,
        ),
    )


def read_spec(spec: Mapping[str, Any], *, strict: bool = False) -> GatewaySpec:
    """The typed spec of a resource's `spec`.

    Args:
        spec: as YAML or the API server has it.
        strict: refuse unknown fields, which the API server would prune: for files of people.

    Raises:
        InvalidInput: `field` is the path of the first problem, `reason` holds one line for each.
    """
    try:
        return GatewaySpec.model_validate(spec, extra="forbid" if strict else "ignore")
    except ValidationError as error:
        problems = error.errors(include_url=False, include_context=False)
        lines = [
            f"{_path(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in problems
        ]
        raise InvalidInput(_path(problems[0]["loc"]), "\n".join(lines)) from None


def _path(place: tuple[int | str, ...]) -> str:
    text = "spec"
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text
