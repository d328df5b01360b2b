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
    """The Deployment whose pods are the gateway's replicas, in the same namespace."""

    name: Annotated[ObjectName, Field(description="Name of the Deployment.")]


class RebalanceSpec(Part):
    """Moving viewers from overloaded pods to others, by asking them to reconnect."""

    enabled: Annotated[bool, Field(strict=True, description="Enable rebalancing.")] = True
    tolerance_percent: Annotated[
        int,
        whole(
            1,
            1_000,
            "Rebalancing ends when no pod is more than this above the mean, and starts at one and "
            "a half times this value.",
        ),
    ] = 10
    rate_per_s: Annotated[
        int,
        whole(
            1, 10_000, "Maximum number of viewers per second that are asked to move, over all pods."
        ),
    ] = 50


class RedisSource(Part):
    """Address and credentials of Redis. Defaults come from the settings of the operator."""

    url: Annotated[
        str | None,
        Field(
            min_length=8,
            max_length=1_024,
            pattern=r"^(redis|rediss|redis\+sentinel|rediss\+sentinel|redis\+cluster|rediss\+cluster)://[!-~]+$",
            description="Address of Redis, without a password; same format as `redis.url` of the "
            "gateway.",
        ),
    ] = None
    url_secret: Annotated[
        KeyOf | None, Field(description="The URL from a Secret, instead of `url`.")
    ] = None
    username: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="ACL user."),
    ] = None
    password_secret: Annotated[KeyOf | None, Field(description="The password.")] = None
    sentinel_username: Annotated[
        str | None,
        Field(min_length=1, max_length=128, description="ACL user for the Sentinels."),
    ] = None
    sentinel_password_secret: Annotated[
        KeyOf | None,
        Field(description="Password for the Sentinels; `passwordSecret` is not sent to them."),
    ] = None
    ca_secret: Annotated[
        KeyOf | None, Field(description="PEM certificates of the CA, for TLS.")
    ] = None
    certificate_secret: Annotated[
        CertificateOf | None,
        Field(description="Client certificate, if TLS requires one."),
    ] = None
    check_hostname: Annotated[
        bool, Field(description="Verify that the certificate of the server matches the host name.")
    ] = True

    rules = (
        Rule(
            "!(has(self.url) && has(self.urlSecret))",
            "redis.url and redis.urlSecret are mutually exclusive: set only one of them",
            ".urlSecret",
            lambda part: part.url is None or part.url_secret is None,
        ),
        Rule(
            "!has(self.url) || !self.url.contains('@')",
            "redis.url must not contain credentials: use redis.username and redis.passwordSecret, "
            "or redis.urlSecret",
            ".url",
            lambda part: part.url is None or "@" not in part.url,
        ),
        Rule(
            "!has(self.sentinelUsername) || has(self.sentinelPasswordSecret)",
            "redis.sentinelUsername needs redis.sentinelPasswordSecret",
            ".sentinelUsername",
            lambda part: (
                part.sentinel_username is None or part.sentinel_password_secret is not None
            ),
        ),
    )


class GatewaySpec(Part):
    """The desired state of a gateway: scaling, rebalancing and clean-up of streams."""

    target: Annotated[Target, Field(description="The Deployment of the gateway. Immutable.")]
    replicas: Annotated[
        int,
        whole(
            0,
            1_000,
            "Set by `kubectl scale gateway`. Mode `none`: the number of pods. Mode `internal`: a "
            "minimum number, between `scaling.min` and `scaling.max`. Modes `hpa` and `keda`: no "
            "effect.",
        ),
    ] = 1
    scaling: Annotated[Scaling, Field(description="Scaling of the pods.")] = Scaling()
    rebalance: Annotated[
        RebalanceSpec, Field(description="Rebalancing of viewers over the pods.")
    ] = RebalanceSpec()
    streams: Annotated[Streams, Field(description="Clean-up of old streams.")] = Streams()
    redis: Annotated[RedisSource, Field(description="Address and credentials of Redis.")] = (
        RedisSource()
    )

    rules = (
        Rule(
            "self.target.name == oldSelf.target.name",
            "target.name is immutable: for another Deployment, delete this Gateway and create a "
            "new one",
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
