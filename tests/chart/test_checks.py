"""What the schema of the Gateway refuses, the template refuses first, in the same words.

In an upgrade the Gateway comes last: one that the API server refused had changed the settings and
replaced the pods already.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.chart.render import read, template
from tests.operator.test_crd import BAD, GOOD, Spec
from tidegate.model.errors import InvalidInput
from tidegate_operator.model.gateway import read_spec
from tidegate_operator.model.scaling import Scaling, Window
from tidegate_operator.model.streams import MemorySpec, Streams, Ttl, TtlOverride

pytestmark = pytest.mark.real("helm")
#: The parts of the Gateway that are values of the chart.
PARTS = ("scaling", "rebalance", "streams")
PREFIX = "operation-progress:"


def values_of(spec: Spec) -> dict[str, Any]:
    return {part: spec[part] for part in PARTS if part in spec}


#: What the schema of the values refuses is a copy of the other, and needs no second look each time.
REFUSED = [
    pytest.param(
        values_of(spec), named, marks=[pytest.mark.full] if named.startswith("spec.") else []
    )
    for spec, named in BAD
    if values_of(spec)
]


@pytest.mark.parametrize(("values", "named"), REFUSED)
def test_what_the_api_server_refuses_is_refused_by_the_template(
    values: dict[str, Any], named: str
) -> None:
    done = template(values)
    assert done.returncode != 0
    if not named.startswith("spec."):  # those of the schema are told by the schema of the values
        assert named in done.stderr


#: For each rule of the parts values that break it, and beside them values that just do not.
RULES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"scaling": {"min": 11}}, {"scaling": {"min": 10}}, "scaling.min must be at most"),
    ({"scaling": {"max": 1}}, {"scaling": {"max": 2}}, "scaling.min must be at most"),
    (
        {"scaling": {"schedule": [{"begin": "08:00", "end": "09:00", "min": 4, "max": 3}]}},
        {"scaling": {"schedule": [{"begin": "08:00", "end": "09:00", "min": 12, "max": 12}]}},
        "scaling.schedule[0]: min must be at most max",
    ),
    (
        {"scaling": {"schedule": [{"begin": "08:00", "end": "09:00", "min": 11}]}},
        {"scaling": {"schedule": [{"begin": "08:00", "end": "09:00", "min": 10}]}},
        "scaling.schedule: min of a window without a max must be at most scaling.max",
    ),
    (
        {"scaling": {"up": {"tolerancePercent": 4}, "down": {"tolerancePercent": 0}}},
        {"scaling": {"down": {"tolerancePercent": 0}}},
        "must add up to 5 or more",
    ),
    (
        {"scaling": {"mode": "hpa", "hpa": {"external": []}}},
        {"scaling": {"mode": "hpa", "hpa": {"external": [{"metric": "a", "perPod": 1}]}}},
        "scaling.hpa needs cpuPercent",
    ),
    (
        {"scaling": {"mode": "keda", "keda": {"triggers": []}}},
        {"scaling": {"mode": "keda", "keda": {"triggers": [{"type": "cpu", "metadata": {}}]}}},
        "scaling.keda needs a trigger",
    ),
    *(
        (
            {"streams": {"ttl": {field: 59}}},
            {"streams": {"ttl": {field: 60}, "overrides": [{"prefix": PREFIX, field: 0}]}},
            f"streams.ttl: {field} must be 60 or more",
        )
        for field in ("finishedS", "failedS", "idleS", "orphanS")
    ),
    (
        {"streams": {"overrides": [{"prefix": PREFIX}, {"prefix": PREFIX, "idleS": 1}]}},
        {"streams": {"overrides": [{"prefix": PREFIX, "idleS": 0}]}},
        "streams.overrides[1]: idleS must be 60 or more",
    ),
    (
        {"streams": {"memory": {"actPercent": 74}}},
        {"streams": {"memory": {"actPercent": 75}}},
        "streams.memory.warnPercent must be at most",
    ),
    (
        {"streams": {"prefix": "tidegate:jobs"}},
        {"streams": {"prefix": "tidegates:"}},
        "streams.prefix must not cover keys",
    ),
    (
        {"settings": {"redis": {"key_prefix": "tidegate/x"}}},
        {"settings": {"redis": {"key_prefix": "jobs"}}},
        "streams.prefix must not cover keys",
    ),
    (
        {
            "settings": {"redis": {"key_prefix": "jobs:"}},
            "streams": {"overrides": [{"prefix": PREFIX}]},
        },
        {
            "settings": {"redis": {"key_prefix": "jobs:"}},
            "streams": {"overrides": [{"prefix": "jobs:night:"}]},
        },
        "each prefix must begin with streams.prefix",
    ),
]


@pytest.mark.parametrize(("bad", "good", "told"), RULES)
def test_a_rule_and_its_border(bad: dict[str, Any], good: dict[str, Any], told: str) -> None:
    """The defaults of the rules are written in the template again; this is where they are held."""
    done = template(bad)
    assert done.returncode != 0
    assert told in done.stderr
    done = template(good)
    assert done.returncode == 0, done.stderr
    (gateway,) = (one for one in read(done.stdout) if one["kind"] == "Gateway")
    read_spec(gateway["spec"], strict=True)


def test_every_rule_has_a_case() -> None:
    told = {said for _, _, said in RULES}
    for part in (Scaling, Window, Streams, Ttl, TtlOverride, MemorySpec):
        for rule in part.rules:
            head = rule.message.split(" (")[0]
            assert any(said.split("]: ")[-1].split(".ttl: ")[-1] in head for said in told), head


@pytest.mark.parametrize("values", [one for one in map(values_of, GOOD) if one])
def test_what_the_api_server_takes_is_taken(values: dict[str, Any]) -> None:
    done = template(values)
    assert done.returncode == 0, done.stderr


def test_nothing_is_checked_that_is_not_installed() -> None:
    values = {"operator": {"enabled": False}, "scaling": {"min": 11}}
    assert template(values).returncode == 0


NAMES = ("Not_A_Name", "a" * 254, "a b", "../a", "-a", "{{ fail }}", "a: b", "ä")
KEYS = ("a b", "../a", "a/b", "a" * 254, "a}", "ä", "a\n")


def _at(path: str, value: str) -> dict[str, Any]:
    *groups, last = path.split(".")
    values: dict[str, Any] = {last: value}
    for group in reversed(groups):
        values = {group: values}
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(pytest.param("redis.existingSecret", name, marks=pytest.mark.full) for name in NAMES),
        *(pytest.param("redis.passwordKey", key, marks=pytest.mark.full) for key in KEYS),
        *((path, "Not_A_Name") for path in ("valkey.existingSecret", "redis.tls.secret")),
        *((f"redis.tls.{key}", "a/b") for key in ("caKey", "certKey", "keyKey")),
        ("valkey.passwordKey", "a b"),
        ("settings.redis.key_prefix", "jobs*"),
        ("settings.redis.key_prefix", "j" * 129),
        ("settings.redis.group", "a b"),
    ],
)
def test_a_hostile_value_does_not_reach_the_gateway(path: str, value: str) -> None:
    """Names and keys of Secrets, and what comes from the settings, have the patterns of the CRD."""
    done = template(_at(path, value))
    assert done.returncode != 0, done.stdout
    assert path.rsplit(".", maxsplit=1)[-1] in done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"autoscaling": {"enabled": True}}, "autoscaling.enabled and operator.enabled exclude"),
        (
            {
                "autoscaling": {"enabled": True},
                "operator": {"enabled": False},
                "gateway": {"replicas": 3},
            },
            "autoscaling.enabled and gateway.replicas exclude",
        ),
        (
            {
                "autoscaling": {"enabled": True, "minReplicas": 11},
                "operator": {"enabled": False},
            },
            "autoscaling.minReplicas must be at most",
        ),
        (
            {
                "autoscaling": {"enabled": True, "targetCPUUtilizationPercentage": None},
                "operator": {"enabled": False},
            },
            "autoscaling.enabled needs",
        ),
        (
            {"monitoring": {"podMonitor": {"enabled": True}, "serviceMonitor": {"enabled": True}}},
            "monitoring.podMonitor and monitoring.serviceMonitor exclude",
        ),
        ({"gateway": {"hostUsers": "no"}}, "hostUsers"),
        ({"gateway": {"livenessProbe": {"httpGet": {"path": "/"}}}}, "httpGet"),
        ({"gateway": {"livenessProbe": {"periodSeconds": 0}}}, "periodSeconds"),
        ({"gateway": {"extraEnv": [{"value": "without a name"}]}}, "name"),
        ({"global": {"imageRegistry": "user@host"}}, "imageRegistry"),
        ({"global": {"imagePullSecrets": [{"nom": "a"}]}}, "imagePullSecrets"),
        ({"service": {"ipFamilyPolicy": "Both"}}, "ipFamilyPolicy"),
        ({"service": {"ipFamilies": ["IPv5"]}}, "ipFamilies"),
        ({"namespaceOverride": "Not_One"}, "namespaceOverride"),
        ({"generateSecrets": "yes"}, "generateSecrets"),
        ({"commonAnnotations": {"a": 1}}, "commonAnnotations"),
        ({"extraObjects": [1]}, "extraObjects"),
        ({"valkey": {"image": {"digest": "latest"}}}, "digest"),
    ],
)
def test_what_would_be_ignored_or_refused_later_is_refused(
    values: dict[str, Any], told: str
) -> None:
    done = template(values)
    assert done.returncode != 0
    assert told in done.stderr


def test_the_types_refuse_the_same() -> None:
    for bad, _, _ in RULES:
        if "settings" not in bad:
            with pytest.raises(InvalidInput):
                read_spec({"target": {"name": "a"}, **bad})
