"""How this operator process runs: where it listens, its Lease, its pace.

What it does to a gateway is not here but in the `Gateway` resource. A value comes from a flag, else
from a variable `TIDEGATE_OPERATOR_<FIELD>`, else it is the default. Durations are in seconds.

Invariant: an `OperatorSettings` that exists is valid as a whole and cannot change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from tidegate.model.errors import SettingsError
from tidegate.model.settings import Group, LogSettings, RedisSettings, RedisUrl, rule_broken
from tidegate.model.settings.values import split_list
from tidegate.redis.address import parse_address
from tidegate.settings_loading.environment import from_environment
from tidegate.settings_loading.fields import SettingField, fields_of
from tidegate.settings_loading.loading import Given, Problem, load
from tidegate_operator.kube.objects import Reference
from tidegate_operator.leader.election import DURATION_MAX_S, Terms
from tidegate_operator.model.streams import PREFIX_MIN_LENGTH

VARIABLE_PREFIX = "TIDEGATE_OPERATOR_"
#: Flags whose name is not that of their field.
_FLAGS = {"redis_url": "--redis"}

#: Where Kubernetes tells a pod its namespace.
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

_NAME = re.compile(r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$")
_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")
_UID = re.compile(r"^[a-zA-Z0-9]([-a-zA-Z0-9]{0,63})$", re.ASCII)
#: A host with or without a port; an IPv6 address in brackets.
_HOST = re.compile(r"^([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$")


def _namespace(text: str) -> str:
    if not _LABEL.match(text):
        raise ValueError(
            "must be the name of a namespace: up to 63 of a-z 0-9 -; give it with --namespace"
        )
    return text


def _object_name(text: str) -> str:
    if not _NAME.match(text):
        raise ValueError("must be a name as Kubernetes has them: up to 253 of a-z 0-9 - .")
    return text


def _optional_name(text: str | None) -> str | None:
    return None if text is None else _object_name(text)


def _uid(text: str | None) -> str | None:
    if text is not None and not _UID.match(text):
        raise ValueError("must be the UID of an object: up to 64 of a-z A-Z 0-9 -")
    return text


def _hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    plain = tuple(text.lower().rstrip(".") for text in texts)
    for text in plain:
        if len(text) > 300 or not _HOST.match(text):
            raise ValueError(
                "must be hosts with or without a port, such as redis-0.redis,10.0.0.7:6380"
            )
        _ = urlsplit(f"//{text}").port  # raises where that is none
    return plain


def _check_url(url: RedisUrl | None) -> RedisUrl | None:
    if url is not None:
        # The gateway's own check, and its words.
        try:
            parse_address(RedisSettings(url=url))
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        except SettingsError as error:
            raise ValueError(str(error).removeprefix("redis.url: ")) from None
    return url


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _host_name() -> str:
    return os.uname().nodename.lower()


class OperatorSettings(Group):
    """The settings of one operator process."""

    group_name = ""

    namespace: Annotated[
        str,
        AfterValidator(_namespace),
        Field(
            validate_default=True,
            default_factory=_own_namespace,
            json_schema_extra={"default_text": "that of the pod"},
            description="Namespace of the `Gateway` resources and of the Lease.",
        ),
    ]
    gateway: Annotated[
        str | None,
        AfterValidator(_optional_name),
        Field(
            description="Name of the only `Gateway` that is processed. Unset: all in the "
            "namespace.",
        ),
    ] = None
    target: Annotated[
        str | None,
        AfterValidator(_optional_name),
        Field(
            description="Name of the only Deployment that a `Gateway` may scale. Unset: any that "
            "the Role allows.",
        ),
    ] = None
    key_prefix: Annotated[
        str | None,
        Field(
            min_length=PREFIX_MIN_LENGTH,
            max_length=128,
            description="Required prefix of the `spec.streams.prefix` of a `Gateway`. Unset: any "
            "prefix is allowed.",
        ),
    ] = None
    identity: Annotated[
        str,
        AfterValidator(_object_name),
        Field(
            validate_default=True,
            default_factory=_host_name,
            json_schema_extra={"default_text": "the host name"},
            description="Name of this replica in the Lease; in Kubernetes the name of the pod.",
        ),
    ]
    pod_uid: Annotated[
        str | None,
        AfterValidator(_uid),
        Field(
            description="UID of this replica's pod, whose name is `identity`. The pod owns the "
            "Lease while it leads, so that Kubernetes removes the Lease with the last pod. Unset: "
            "the Lease stays.",
        ),
    ] = None
    lease: Annotated[
        str,
        AfterValidator(_object_name),
        Field(
            description="Name of the Lease. Only one of the operators with the same Lease is "
            "active."
        ),
    ] = "tidegate-operator"
    lease_duration_s: Annotated[
        int,
        Field(
            ge=3,
            le=int(DURATION_MAX_S),
            description="Time without a renewal after which the leader is replaced. A killed "
            "leader is replaced after this time plus at most two checks: 13 s.",
        ),
    ] = 10
    lease_deadline_s: Annotated[
        float,
        Field(
            ge=1,
            le=DURATION_MAX_S,
            description="A leader whose renewals are not accepted for this long stops by itself; "
            "must be below `lease_duration_s` by more than the duration of a request.",
        ),
    ] = 7.0
    lease_renew_s: Annotated[
        float,
        Field(
            ge=0.1,
            le=20,
            description="Interval of renewals by the leader, and of checks by the others.",
        ),
    ] = 1.5
    kubeconfig: Annotated[
        Path | None,
        Field(
            description="Kubeconfig file: address and credentials of the API server. Unset: the "
            "service account of the pod, otherwise `KUBECONFIG`, otherwise ~/.kube/config."
        ),
    ] = None
    api_timeout_s: Annotated[
        float, Field(ge=0.5, le=60, description="Timeout of a request to the API server.")
    ] = 10.0
    redis_url: Annotated[
        RedisUrl | None,
        AfterValidator(_check_url),
        Field(
            description="Redis of gateways whose `spec.redis` has no address; same format as "
            "`redis.url` of the gateway."
        ),
    ] = None
    redis_hosts: Annotated[
        tuple[str, ...],
        Field(
            max_length=256,
            description="Hosts of Redis and of Sentinels, with or without a port and separated by "
            "commas, that `spec.redis.url` may contain in addition to those of `redis_url`. "
            "Credentials are not sent to other hosts, except to an address in the same Secret.",
        ),
        BeforeValidator(split_list),
        AfterValidator(_hosts),
    ] = ()
    redis_username: Annotated[
        str | None, Field(description="ACL user, if `spec.redis` has none.")
    ] = None
    redis_password: Annotated[
        SecretStr | None,
        Field(description="Password, if `spec.redis` has none. Set it by environment variable."),
    ] = None
    redis_sentinel_username: Annotated[
        str | None,
        Field(description="ACL user for the Sentinels; needs `redis_sentinel_password`."),
    ] = None
    redis_sentinel_password: Annotated[
        SecretStr | None,
        Field(
            description="Password for the Sentinels, if `spec.redis` has none. Set it by "
            "environment variable."
        ),
    ] = None
    redis_ca_file: Annotated[
        Path | None, Field(description="PEM file of the CA that signed the certificate of Redis.")
    ] = None
    redis_cert_file: Annotated[
        Path | None,
        Field(
            description="PEM client certificate, if `spec.redis` has none; needs `redis_key_file`."
        ),
    ] = None
    redis_key_file: Annotated[
        Path | None,
        Field(
            description="PEM key of the client certificate, not encrypted; needs `redis_cert_file`."
        ),
    ] = None
    host: Annotated[
        str,
        Field(
            min_length=1,
            max_length=255,
            description="Listen address of health checks and metrics; `::` is every address, of "
            "IPv4 and of IPv6.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Field(
            ge=0, le=65_535, description="Port of health checks and metrics; 0 selects a free port."
        ),
    ] = 9091
    interval_s: Annotated[
        float,
        Field(
            ge=0.2,
            le=300,
            description="Interval of the loop that observes, decides and acts. A change of a "
            "`Gateway` starts a round immediately.",
        ),
    ] = 5.0
    status_s: Annotated[
        float,
        Field(
            ge=1,
            le=3_600,
            description="Interval at which the status is written if only figures have changed; a "
            "changed condition is written immediately.",
        ),
    ] = 30.0
    stuck_s: Annotated[
        float,
        Field(
            ge=5,
            le=3_600,
            description="A loop that should run and has not completed a round for this long makes "
            "the process unhealthy, so that Kubernetes restarts it.",
        ),
    ] = 180.0
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Field(description="Lowest level that is logged."),
    ] = "info"
    log_format: Annotated[
        Literal["auto", "json", "pretty"],
        Field(description="`auto`: pretty on a terminal, one JSON object per line elsewhere."),
    ] = "auto"

    @model_validator(mode="after")
    def _rules(self) -> Self:
        self._require("lease_renew_s", "<", "lease_deadline_s")
        self._require("lease_deadline_s", "<", "lease_duration_s")
        if self.stuck_s <= 2 * self.interval_s:
            raise rule_broken(
                "stuck_s",
                self.stuck_s,
                f"must be more than twice interval_s ({self.interval_s})",
            )
        for field, other in (
            ("redis_cert_file", "redis_key_file"),
            ("redis_key_file", "redis_cert_file"),
            ("redis_sentinel_username", "redis_sentinel_password"),
        ):
            if getattr(self, field) is not None and getattr(self, other) is None:
                raise rule_broken(field, getattr(self, field), f"needs {other} beside it")
        return self

    @property
    def terms(self) -> Terms:
        """The times of the election."""
        return Terms(self.lease_duration_s, self.lease_deadline_s, self.lease_renew_s)

    @property
    def own_pod(self) -> Reference | None:
        """The pod of this process, where it is known."""
        if self.pod_uid is None:
            return None
        return Reference("v1", "Pod", self.identity, self.pod_uid)

    @property
    def logs(self) -> LogSettings:
        """The settings of the logs, as the gateway has them."""
        return LogSettings(level=self.log_level, format=self.log_format)


@cache
def operator_fields() -> Mapping[str, SettingField]:
    """All settings by name, in the order of the page."""
    return fields_of(OperatorSettings, VARIABLE_PREFIX)


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str] | None = None
) -> OperatorSettings:
    """Settings from flags (by field; None: not given) and variables (empty: not given).

    Raises:
        SettingsError: with one line for each thing that is wrong, and where it was said.
    """
    env = os.environ if environ is None else environ
    fields = operator_fields()
    problems: list[Problem] = []

    def given() -> Iterator[Given]:
        for one in from_environment(env, fields, problems, prefix=VARIABLE_PREFIX):
            if one.value:
                yield one
        for field, value in flags.items():
            if value is not None:
                yield Given(field, value, _FLAGS.get(field, f"--{field.replace('_', '-')}"))

    return load(OperatorSettings, fields, given(), problems).settings
