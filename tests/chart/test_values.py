"""Every value of values.yaml has an effect: none is accepted and ignored."""

from __future__ import annotations

import runpy
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import yaml

from tests.chart.render import CHART, template

pytestmark = [pytest.mark.real("helm"), pytest.mark.full]

#: Nothing is generated, so that two renders differ only in what was changed.
BASE: dict[str, Any] = {
    "auth": {"existingSecret": "auth"},
    "publish": {"existingSecret": "publish"},
    "valkey": {"existingSecret": "valkey"},
}
OWN_REDIS = {"url": "rediss://redis", "existingSecret": "redis"}
WITH_TLS = {"secret": "tls", "certKey": "tls.crt", "keyKey": "tls.key"}
#: What stands beside a value, or beside those whose paths begin so: without it there is nothing
#: that it could be about. The longest one counts.
BESIDE: dict[str, dict[str, Any]] = {
    "auth.publicKeys": {"auth": {"existingSecret": "", "publicKeysSecret": "keys"}},
    "publish.": {"publish": {"enabled": True}},
    "publish.enabled": {},
    "admin.": {"admin": {"existingSecret": "admin"}},
    "redis.": {"redis": {**OWN_REDIS, "tls": WITH_TLS}},
    "redis.urlKey": {"redis": {"existingSecret": "redis"}},
    "redis.sentinel": {"redis": {**OWN_REDIS, "sentinelPasswordKey": "sentinel"}},
    "valkey.persistence.": {"valkey": {"persistence": {"enabled": True}}},
    "valkey.persistence.enabled": {},
    "autoscaling.": {"operator": {"enabled": False}, "autoscaling": {"enabled": True}},
    "autoscaling.enabled": {"operator": {"enabled": False}},
    "service.nodePort": {"service": {"type": "NodePort"}},
    "service.loadBalancer": {"service": {"type": "LoadBalancer"}},
    "service.externalTrafficPolicy": {"service": {"type": "LoadBalancer"}},
    "ingress.": {"ingress": {"enabled": True, "hosts": ["a.example.com"]}},
    "ingress.enabled": {"ingress": {"hosts": ["a.example.com"]}},
    "httpRoute.": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}},
    "httpRoute.enabled": {"httpRoute": {"parentRefs": [{"name": "public"}]}},
    "networkPolicy.": {"networkPolicy": {"enabled": True}},
    "networkPolicy.enabled": {},
    "networkPolicy.admin": {},
    "networkPolicy.redisPorts": {"networkPolicy": {"enabled": True}, "redis": OWN_REDIS},
    "operator.cleanUpOnUninstall": {"redis": OWN_REDIS},
    **{
        f"monitoring.{kind}.": {"monitoring": {kind: {"enabled": True}}}
        for kind in ("podMonitor", "serviceMonitor", "prometheusRule", "dashboards")
    },
    **{
        f"monitoring.{kind}.enabled": {}
        for kind in ("podMonitor", "serviceMonitor", "prometheusRule", "dashboards")
    },
}
#: Values for which no other one can be made up.
OTHERS: dict[str, Any] = {
    "image.digest": f"sha256:{'0' * 64}",
    "valkey.image.digest": f"sha256:{'0' * 64}",
    "redis.url": "rediss://other",
    "valkey.maxMemory": "96mb",
    "ingress.path": "/other",
    "httpRoute.path": "/other",
    "httpRoute.timeout": "1h",
    "settings": {"viewer": {"ping_interval_s": 7}},
    "scaling": {"min": 3},
    "rebalance": {"enabled": False},
    "streams": {"dryRun": True},
    "gateway.replicas": 3,
    "service.nodePort": 30080,
    "service.ipFamilies": ["IPv6"],
    "networkPolicy.redisPorts": [6380],
    "networkPolicy.apiServerCidrs": ["192.0.2.0/24"],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}}],
}
TEXTS = (
    *("global.imagePullSecrets", "image.pullSecrets", "valkey.extraArgs", "ingress.hosts"),
    *("service.loadBalancerSourceRanges", "httpRoute.hostnames", "operator.redisHosts"),
    "networkPolicy.adminNamespaces",
)
#: With the reason.
ELSEWHERE = {
    "generateSecrets": "only where Secrets are generated: test_gitops.py",
    "valkey.enabled": "only whether there is a Redis at all: test_chart.py",
}


def leaves() -> Iterator[Any]:
    """The values that are no groups, as helm/reference.py reads them."""
    values = runpy.run_path(str(CHART.parent / "reference.py"))["values"]()
    paths = [one.path for one in values]
    for one in values:
        if not any(path != one.path and path[: len(one.path)] == one.path for path in paths):
            yield one


LEAVES = {".".join(one.path): one for one in leaves()}


def other(name: str) -> Any:
    """A value that is not the default."""
    one = LEAVES[name]
    if name in OTHERS:
        return OTHERS[name]
    if "enum" in one.extra:
        return next(word for word in reversed(one.extra["enum"]) if word != one.default)
    match one.default:
        case bool():
            return not one.default
        case int() | float():
            return one.default + 1
        case str():
            return "other"
        case list():
            return ["other" if name in TEXTS else {"name": "other"}]
        case None:
            return [] if "array" in one.extra["type"] else False
    if name.endswith("Probe"):
        return {"periodSeconds": 77}
    return {"other": "other"}


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(first)
    for key, value in second.items():
        both = isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = merged(made[key], value) if both else value
    return made


@cache
def render(values: str) -> str:
    done = template(yaml.safe_load(values))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(LEAVES.keys() - ELSEWHERE.keys()))
def test_a_value_has_an_effect(name: str) -> None:
    beside = max((one for one in BESIDE if name.startswith(one)), key=len, default="")
    before = merged(BASE, BESIDE.get(beside, {}))
    changed: Any = other(name)
    for key in reversed(name.split(".")):
        changed = {key: changed}
    assert render(yaml.safe_dump(merged(before, changed))) != render(yaml.safe_dump(before))


def test_what_stands_beside_a_value_is_about_one() -> None:
    for one in (*BESIDE, *OTHERS, *TEXTS, *ELSEWHERE):
        assert any(name.startswith(one) for name in LEAVES), one
