"""The definition of `Gateway` on a real API server: what it refuses, and in which words.

Each refusal is checked twice, by the server and by the types, so that a file which the simulator
accepts is one that a cluster accepts.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.harness.waiting import until
from tests.servers.kubernetes import Kubernetes
from tidegate.model.errors import InvalidInput
from tidegate_operator.model.gateway import GROUP, PLURAL, VERSION, GatewaySpec, read_spec
from tidegate_operator.model.reference import reference
from tidegate_operator.model.schema import crd, crd_yaml
from tidegate_operator.model.status import SCHEMA_VERSION

FILE = Path(__file__).parents[2] / "helm/tidegate/crds/gateways.tidegate.dev.yaml"
DEFINITION = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{PLURAL}.{GROUP}"
PATH = f"/apis/{GROUP}/{VERSION}/namespaces/default/{PLURAL}"
NAMESPACE = "/api/v1/namespaces/default"

#: What the schema of each version comes to, without its descriptions.
DIGESTS = {1: "5555b30d06c5f744"}

Spec = dict[str, Any]


def spec_with(path: str, value: Any) -> Spec:
    """A good spec with one value put somewhere, such as `scaling.up.maxPods`."""
    spec: Spec = {"target": {"name": "tidegate"}}
    *parts, last = path.split(".")
    place = spec
    for part in parts:
        place = place.setdefault(part, {})
    place[last] = value
    return spec


def window(**fields: Any) -> list[Spec]:
    return [{"begin": "08:00", "end": "18:00", "min": 3, **fields}]


#: What is wrong, and the field that the message must name.
BAD: list[tuple[Spec, str]] = [
    ({}, "spec.target"),
    (spec_with("target", {}), "spec.target.name"),
    (spec_with("target.name", "Not_A_Name"), "spec.target.name"),
    (spec_with("target.name", "a" * 254), "spec.target.name"),
    (spec_with("replicas", -1), "spec.replicas"),
    (spec_with("replicas", 1001), "spec.replicas"),
    (spec_with("replicas", "two"), "spec.replicas"),
    (spec_with("replicas", 2.5), "spec.replicas"),
    (spec_with("scaling.mode", "magic"), "spec.scaling.mode"),
    (spec_with("scaling", {"min": 5, "max": 4}), "scaling.min must be at most scaling.max"),
    (spec_with("scaling.min", 0), "spec.scaling.min"),
    (spec_with("scaling.max", 2**70), "spec.scaling.max"),
    (spec_with("scaling.connectionsPerPod", 0), "spec.scaling.connectionsPerPod"),
    (spec_with("scaling.deliveriesPerPod", 0), "spec.scaling.deliveriesPerPod"),
    (spec_with("scaling.undispatchedPerPod", -3), "spec.scaling.undispatchedPerPod"),
    (spec_with("scaling.loopLagMs", 20_000), "spec.scaling.loopLagMs"),
    (spec_with("scaling.up.periodS", 0), "spec.scaling.up.periodS"),
    (spec_with("scaling.down.windowS", 7_200), "spec.scaling.down.windowS"),
    (spec_with("scaling.down.tolerancePercent", 95), "spec.scaling.down.tolerancePercent"),
    (
        spec_with("scaling", {"up": {"tolerancePercent": 2}, "down": {"tolerancePercent": 2}}),
        "must add up to 5",
    ),
    (spec_with("scaling.mode", "hpa"), "scaling.hpa needs cpuPercent"),
    (spec_with("scaling.mode", "keda"), "scaling.keda needs a trigger"),
    (spec_with("scaling.schedule", window(begin="8:00")), "spec.scaling.schedule[0].begin"),
    (spec_with("scaling.schedule", window(end="24:00")), "spec.scaling.schedule[0].end"),
    (spec_with("scaling.schedule", window(days=[])), "spec.scaling.schedule[0].days"),
    (spec_with("scaling.schedule", window(days=["Monday"])), "spec.scaling.schedule[0].days"),
    (spec_with("scaling.schedule", window(max=2)), "min must be at most max"),
    (spec_with("scaling.schedule", window(min=11)), "scaling.schedule: min of a window"),
    (
        spec_with("scaling.schedule", window(timeZone="Europe/Berlin\n")),
        "spec.scaling.schedule[0].timeZone",
    ),
    (spec_with("rebalance.ratePerS", 0), "spec.rebalance.ratePerS"),
    (spec_with("rebalance.enabled", "yes"), "spec.rebalance.enabled"),
    (spec_with("streams.prefix", ""), "spec.streams.prefix"),
    (spec_with("streams.prefix", "job"), "spec.streams.prefix"),
    (spec_with("streams.prefix", "jobs*"), "spec.streams.prefix"),
    (spec_with("streams.prefix", "jobs[b]"), "spec.streams.prefix"),
    (spec_with("streams.prefix", "tide"), "streams.prefix must not cover keys"),
    (spec_with("streams.prefix", "tidegate:slots:x"), "streams.prefix must not cover keys"),
    (spec_with("streams.prefix", "tidegate/1/jobs:"), "streams.prefix must not cover keys"),
    (spec_with("streams.prefix", "{tidegate}:"), "spec.streams.prefix"),
    (spec_with("streams.ttl.finishedS", 5), "finishedS must be 60 or more"),
    (spec_with("streams.ttl.idleS", 40_000_000), "spec.streams.ttl.idleS"),
    (spec_with("streams.overrides", [{"prefix": "other:"}]), "must begin with streams.prefix"),
    (
        spec_with("streams.overrides", [{"prefix": "operation-progress:x", "failedS": 1}]),
        "failedS must be 60 or more",
    ),
    (spec_with("streams.memory", {"warnPercent": 95}), "streams.memory.warnPercent must be"),
    (spec_with("streams.pace.commandsPerS", 1), "spec.streams.pace.commandsPerS"),
    (spec_with("redis.url", "http://redis"), "spec.redis.url"),
    (
        spec_with("redis.url", "redis://:secret@redis:6379"),
        "redis.url must not contain credentials",
    ),
    (
        spec_with("redis", {"url": "redis://redis", "urlSecret": {"name": "redis", "key": "url"}}),
        "mutually exclusive",
    ),
    (spec_with("redis.passwordSecret", {"name": "redis"}), "spec.redis.passwordSecret.key"),
    (spec_with("redis.sentinelUsername", "me"), "redis.sentinelUsername needs"),
    (spec_with("redis.certificateSecret", {}), "spec.redis.certificateSecret.name"),
    (
        spec_with("redis.certificateSecret", {"name": "redis", "certKey": "../tls.crt"}),
        "spec.redis.certificateSecret.certKey",
    ),
    (
        spec_with("redis.certificateSecret", {"name": "redis", "keyKey": ""}),
        "spec.redis.certificateSecret.keyKey",
    ),
]

#: What the Gateway of the documentation has, and everything else that is rare.
GOOD: list[Spec] = [
    spec_with("replicas", 0),
    spec_with("streams.prefix", "tidegate-jobs:"),
    spec_with("streams.prefix", "jobs"),
    {
        "target": {"name": "tidegate-gateway"},
        "replicas": 3,
        "scaling": {
            "mode": "hpa",
            "min": 2,
            "max": 40,
            "connectionsPerPod": 5_000,
            "deliveriesPerPod": 20_000,
            "undispatchedPerPod": 500,
            "loopLagMs": 0,
            "up": {"maxPods": 2, "maxPercent": 50, "periodS": 60, "tolerancePercent": 0},
            "down": {"windowS": 0, "tolerancePercent": 90, "maxPercent": 0},
            "schedule": [
                {
                    "days": ["Mon", "Fri"],
                    "begin": "22:00",
                    "end": "06:00",
                    "timeZone": "America/Argentina/Buenos_Aires",
                    "min": 6,
                    "max": 60,
                }
            ],
            "hpa": {
                "cpuPercent": 70,
                "external": [{"metric": "viewers", "labels": {"app": "x"}, "perPod": 4_000}],
            },
            "keda": {
                "triggers": [
                    {"type": "prometheus", "metadata": {"query": "sum(x)"}, "authentication": "a"}
                ]
            },
        },
        "rebalance": {"enabled": False},
        "streams": {
            "dryRun": True,
            "prefix": "jobs:",
            "ttl": {"finishedS": 0, "failedS": 60},
            "overrides": [{"prefix": "jobs:night:", "finishedS": 600}],
            "trim": {"finishedEntries": 100},
            "memory": {"limitBytes": 2**33},
        },
        "redis": {
            "url": "redis+sentinel://s1,s2:26379/main/0",
            "username": "operator",
            "passwordSecret": {"name": "redis", "key": "password"},
            "sentinelUsername": "operator",
            "sentinelPasswordSecret": {"name": "redis", "key": "sentinel-password"},
            "caSecret": {"name": "redis-ca", "key": "ca.crt"},
            "certificateSecret": {"name": "redis-client"},
        },
    },
    spec_with(
        "redis",
        {
            "url": "rediss://redis",
            "sentinelPasswordSecret": {"name": "redis", "key": "sentinel-password"},
            "certificateSecret": {"name": "redis", "certKey": "client.pem", "keyKey": "client.key"},
        },
    ),
]


def test_the_committed_definition_is_what_the_types_make() -> None:
    assert FILE.read_text("utf-8") == crd_yaml(), (
        "run: tidegate-operator crd > helm/tidegate/crds/gateways.tidegate.dev.yaml"
    )
    assert yaml.safe_load(FILE.read_text("utf-8")) == crd()


def _without_words(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_words(one) for key, one in node.items() if key != "description"}
    return [_without_words(one) for one in node] if isinstance(node, list) else node


def test_another_schema_has_another_version() -> None:
    """By it the operator knows that nobody has upgraded the definition."""
    schema = json.dumps(_without_words(crd()["spec"]["versions"]), sort_keys=True)
    digest = hashlib.sha256(schema.encode()).hexdigest()[:16]
    assert DIGESTS.get(SCHEMA_VERSION) == digest, (
        "raise SCHEMA_VERSION in model/status.py, and add the digest under it here; "
        "a version that was never released may keep its number"
    )


@pytest.mark.parametrize(("spec", "named"), BAD)
def test_the_types_refuse_what_the_server_refuses(spec: Spec, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_spec(spec)
    assert named in caught.value.reason


@pytest.fixture
async def api(kubernetes: Kubernetes) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an API server that knows the definition, as it is committed."""
    async with kubernetes.client() as client:
        applied = await client.patch(
            DEFINITION,
            params={"fieldManager": "test", "force": "true"},
            content=FILE.read_bytes(),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        assert applied.is_success, applied.text

        async def served() -> bool:
            conditions = (await client.get(DEFINITION)).json()["status"].get("conditions") or ()
            established = any(
                one["type"] == "Established" and one["status"] == "True" for one in conditions
            )
            # The namespace is made by the API server itself, when it is ready already.
            return established and all(
                [(await client.get(path)).is_success for path in (PATH, NAMESPACE)]
            )

        await until(served, "the definition is served")
        yield client
        for item in (await client.get(PATH)).json()["items"]:
            await client.delete(f"{PATH}/{item['metadata']['name']}")


def gateway(name: str, spec: Spec) -> Spec:
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": copy.deepcopy(spec),
    }


async def make(api: httpx.AsyncClient, name: str, spec: Spec) -> Spec:
    answer = await api.post(PATH, json=gateway(name, spec), params={"fieldValidation": "Strict"})
    assert answer.status_code == 201, answer.text
    made: Spec = answer.json()
    return made


async def patch(api: httpx.AsyncClient, name: str, spec: Spec) -> httpx.Response:
    return await api.patch(
        f"{PATH}/{name}",
        json={"spec": spec},
        headers={"Content-Type": "application/merge-patch+json"},
    )


async def test_the_server_accepts_the_definition(api: httpx.AsyncClient) -> None:
    """`NonStructuralSchema` would be a condition, not a refusal."""
    conditions = {
        one["type"]: one["status"]
        for one in (await api.get(DEFINITION)).json()["status"]["conditions"]
    }
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions


async def test_bad_resources_are_refused_with_the_field(api: httpx.AsyncClient) -> None:
    passed, badly_said = [], []
    for number, (spec, named) in enumerate(BAD):
        answer = await api.post(PATH, json=gateway(f"bad-{number}", spec))
        if answer.status_code != 422:
            passed.append((spec, answer.status_code))
        elif named not in answer.json()["message"]:
            badly_said.append((named, answer.json()["message"]))
    assert not passed
    assert not badly_said


@pytest.mark.parametrize("number", range(len(GOOD)))
async def test_the_server_fills_in_the_same_defaults(api: httpx.AsyncClient, number: int) -> None:
    made = await make(api, f"good-{number}", GOOD[number])
    assert read_spec(made["spec"], strict=True) == read_spec(GOOD[number], strict=True)
    whole = GatewaySpec.model_validate(made["spec"]).model_dump(
        by_alias=True, exclude_none=True, mode="json"
    )
    assert made["spec"] == whole, "every default is in the resource, for people to see"


async def test_null_is_not_set(api: httpx.AsyncClient) -> None:
    """Helm writes null for an empty value."""
    spec = spec_with("scaling", {"deliveriesPerPod": None, "min": None})
    made = await make(api, "nulls", spec)
    assert made["spec"]["scaling"]["min"] == 2
    assert "deliveriesPerPod" not in made["spec"]["scaling"]


async def test_a_target_is_for_life(api: httpx.AsyncClient) -> None:
    await make(api, "fixed", spec_with("replicas", 2))
    answer = await patch(api, "fixed", {"target": {"name": "other"}})
    assert answer.status_code == 422
    assert "target.name is immutable" in answer.json()["message"]


async def test_replicas_are_refused_where_they_would_do_nothing(api: httpx.AsyncClient) -> None:
    await make(api, "by-hpa", spec_with("scaling", {"mode": "hpa", "hpa": {"cpuPercent": 60}}))
    answer = await patch(api, "by-hpa", {"replicas": 5})
    assert answer.status_code == 422
    assert "change scaling.min and scaling.max" in answer.json()["message"]
    answer = await patch(api, "by-hpa", {"replicas": 5, "scaling": {"mode": "internal"}})
    assert answer.status_code == 200, "a change of the mode may bring a number along"


async def test_the_scale_sub_resource(api: httpx.AsyncClient) -> None:
    """What `kubectl scale gateway` and an autoscaler do."""
    await make(api, "scaled", spec_with("scaling.mode", "none"))
    status = {"replicas": 2, "selector": "app=tidegate"}
    answer = await api.patch(
        f"{PATH}/scaled/status",
        json={"status": status},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.is_success, answer.text
    scale = (await api.get(f"{PATH}/scaled/scale")).json()
    assert scale["spec"]["replicas"] == 1, "unset before"
    assert scale["status"] == status
    answer = await api.patch(
        f"{PATH}/scaled/scale",
        json={"spec": {"replicas": 5}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.is_success, answer.text
    made = (await api.get(f"{PATH}/scaled")).json()
    assert made["spec"]["replicas"] == 5
    assert made["metadata"]["generation"] == 2


async def test_conditions_are_a_map_by_type(api: httpx.AsyncClient) -> None:
    await make(api, "told", spec_with("replicas", 1))
    one = {
        "type": "Ready",
        "status": "True",
        "reason": "AllWell",
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2026-01-05T10:00:00Z",
    }

    async def tell(*conditions: Spec) -> httpx.Response:
        return await api.patch(
            f"{PATH}/told/status",
            json={"status": {"conditions": list(conditions)}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    assert (await tell(one, {**one, "type": "RedisReachable"})).status_code == 200
    twice = await tell(one, one)
    assert twice.status_code == 422
    assert "Duplicate value" in twice.json()["message"]
    assert (await tell({**one, "status": "Maybe"})).status_code == 422


async def test_kubectl_get_shows_the_columns(api: httpx.AsyncClient) -> None:
    await make(api, "shown", spec_with("replicas", 1))
    table = await api.get(PATH, headers={"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"})
    names = [one["name"] for one in table.json()["columnDefinitions"]]
    assert names == [
        *("Name", "Mode", "Desired", "Ready", "Connections", "Healthy"),
        *("Target", "Scaling", "Last sweep", "Observed", "Age"),
    ]


def test_the_page_has_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs/operator.md").read_text("utf-8")
    assert reference() in page, "run: tidegate-operator crd --reference, and put it into the page"


def test_the_page_s_example_is_a_good_one() -> None:
    page = (Path(__file__).parents[2] / "docs/operator.md").read_text("utf-8")
    example = yaml.safe_load(page.partition("```yaml")[2].partition("```")[0])
    assert example["apiVersion"] == f"{GROUP}/{VERSION}"
    assert read_spec(example["spec"], strict=True).scaling.schedule[0].min == 6
