"""Fields of objects that platform teams set: on every component, and in no place forgotten."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.render import (
    CASES,
    CHART,
    GENERATE,
    OF_A_MONITOR,
    Manifest,
    container,
    helm,
    only,
    read,
    rendered,
    template,
)
from tests.chart.test_chart import every_case

pytestmark = pytest.mark.real("helm")
WORKLOADS = {"gateway": "Deployment", "operator": "Deployment", "valkey": "StatefulSet"}
every_component = pytest.mark.parametrize("component", WORKLOADS)


def workload(case: str, component: str) -> Manifest:
    return only(case, WORKLOADS[component], f"tidegate-{component}")


def pods(case: str) -> Iterator[tuple[str, Any]]:
    """Name and spec of every pod, the one of `helm test` among them."""
    for one in rendered(case):
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


@every_component
def test_every_component_takes_the_fields_of_a_pod(component: str) -> None:
    given = CASES["fields of all pods"][component]
    one = workload("fields of all pods", component)
    assert one["metadata"]["annotations"].items() >= given["annotations"].items()
    metadata = one["spec"]["template"]["metadata"]
    assert metadata["labels"].items() >= given["podLabels"].items()
    assert metadata["annotations"].items() >= given["podAnnotations"].items()
    assert one["spec"]["revisionHistoryLimit"] == 2
    takes_fields(one["spec"]["template"]["spec"], given)


def takes_fields(pod: Any, given: Any) -> None:
    for field in (
        *("tolerations", "affinity", "priorityClassName", "runtimeClassName"),
        *("dnsPolicy", "dnsConfig", "hostAliases", "hostUsers"),
    ):
        assert pod[field] == given[field], field
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"} | given["nodeSelector"]


def test_the_pods_of_hooks_run_where_the_others_may() -> None:
    """The pod of `helm test` was never scheduled where all nodes have a taint."""
    given = CASES["fields of all pods"]
    takes_fields(only("fields of all pods", "Pod")["spec"], given["gateway"])
    own_redis = {**given, "redis": {"url": "redis://redis"}}
    (job,) = (one for one in read(template(own_redis).stdout) if one["kind"] == "Job")
    takes_fields(job["spec"]["template"]["spec"], given["operator"])


def test_nothing_is_asked_of_nodes_but_linux() -> None:
    for name, pod in pods("defaults"):
        assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}, name
        assert not {"hostUsers", "hostAliases", "tolerations", "affinity"} & pod.keys(), name


@every_component
def test_probes_change_their_timing_only(component: str) -> None:
    before = container(workload("defaults", component))
    after = container(workload("fields of all pods", component))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        given = CASES["fields of all pods"][component][probe]
        assert after[probe] == before[probe] | given
        assert {"httpGet", "tcpSocket"} & after[probe].keys()


def test_a_probe_may_have_the_timing_of_kubernetes() -> None:
    values = {"gateway": {"livenessProbe": None}}
    (gateway,) = (
        one
        for one in read(template(values).stdout)
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", "tidegate-gateway")
    )
    probe = container(gateway)["livenessProbe"]
    assert probe == {"httpGet": {"path": "/healthz", "port": "admin"}}


@every_case
def test_no_variable_is_there_twice(case: str) -> None:
    """A server-side apply refuses it, and Helm 4 applies so."""
    for name, pod in pods(case):
        for one in (*pod["containers"], *pod.get("initContainers", ())):
            names = [variable["name"] for variable in one.get("env", ())]
            assert len(names) == len(set(names)), name


def test_a_variable_replaces_that_of_the_chart() -> None:
    gateway, operator = (
        {one["name"]: one for one in container(workload("variables of one's own", name))["env"]}
        for name in ("gateway", "operator")
    )
    assert gateway["TIDEGATE_SERVER__POD"] == {"name": "TIDEGATE_SERVER__POD", "value": "by-hand"}
    assert gateway["TZ"]["value"] == "UTC"
    assert gateway["TIDEGATE_REDIS__URL"]["value"].startswith("redis://")
    assert operator["TIDEGATE_OPERATOR_LOG_FORMAT"]["value"] == "pretty"


def test_ids_that_the_cluster_assigns_are_not_asked_for() -> None:
    """OpenShift refuses a pod that asks for ids outside the range of its namespace."""
    ids = {"runAsUser", "runAsGroup", "fsGroup"}
    for name, pod in pods("ids that the cluster assigns"):
        context = pod["securityContext"]
        assert not ids & context.keys(), name
        assert context["runAsNonRoot"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in pod["containers"]:
            assert not ids & one["securityContext"].keys(), name
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    for name, pod in pods("defaults"):
        assert ids <= pod["securityContext"].keys(), name


def test_a_security_context_may_be_left_out() -> None:
    values = {"gateway": {"podSecurityContext": None, "securityContext": None}}
    manifests = read(template(values).stdout)
    (gateway,) = (
        o
        for o in manifests
        if o["metadata"]["name"] == "tidegate-gateway" and o["kind"] == "Deployment"
    )
    pod = gateway["spec"]["template"]["spec"]
    assert "securityContext" not in pod
    assert "securityContext" not in pod["containers"][0]


def test_volumes_containers_and_spread() -> None:
    pod = workload("operator with a volume", "operator")["spec"]["template"]["spec"]
    assert [one["name"] for one in pod["initContainers"]] == ["first"]
    assert [one["name"] for one in pod["containers"]] == ["operator", "beside"]
    assert {"name": "more", "emptyDir": {}} in pod["volumes"]
    assert {"name": "more", "mountPath": "/more"} in pod["containers"][0]["volumeMounts"]
    assert pod["topologySpreadConstraints"] == []
    gateway = workload("defaults", "gateway")["spec"]["template"]["spec"]
    keys = [one["topologyKey"] for one in gateway["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    (spread,) = workload("defaults", "operator")["spec"]["template"]["spec"][
        "topologySpreadConstraints"
    ]
    assert spread["topologyKey"] == "kubernetes.io/hostname"


def test_another_namespace_is_that_of_everything() -> None:
    (binding,) = [o for o in rendered("another namespace") if o["kind"] == "RoleBinding"]
    assert {one["namespace"] for one in binding["subjects"]} == {"other"}
    config = only("another namespace", "ConfigMap", "tidegate-gateway")["data"]["settings.yaml"]
    assert "tidegate.other.svc" in yaml.safe_load(config)["server"]["allowed_hosts"]
    assert "some" not in config
    for rule in [o for o in rendered("another namespace") if o["kind"] == "PrometheusRule"]:
        assert 'namespace="other"' in json.dumps(rule).replace("\\", "")
        assert 'namespace="some"' not in json.dumps(rule).replace("\\", "")


@pytest.mark.parametrize(
    ("repository", "image"),
    [
        ("tidegate/tidegate", "mirror.example.com/tidegate/tidegate:1"),
        ("tidegate", "mirror.example.com/tidegate:1"),
        ("ghcr.io/tidegate/tidegate", "mirror.example.com/tidegate/tidegate:1"),
        ("localhost:5000/a/b", "mirror.example.com/a/b:1"),
        ("localhost/a", "mirror.example.com/a:1"),
    ],
)
def test_a_registry_for_all_images(repository: str, image: str) -> None:
    values = {
        "global": {"imageRegistry": "mirror.example.com/"},
        "image": {"repository": repository, "tag": "1"},
    }
    (gateway,) = (
        one
        for one in read(template(values).stdout)
        if (one["kind"], one["metadata"]["name"]) == ("Deployment", "tidegate-gateway")
    )
    assert container(gateway)["image"] == image


def test_registry_and_logins_of_a_parent_chart_are_those_of_every_pod() -> None:
    """They were accepted and ignored."""
    for name, pod in pods("one registry"):
        assert pod["imagePullSecrets"] == [{"name": "mirror"}, {"name": "other"}], name
        for one in pod["containers"]:
            assert one["image"].startswith("mirror.example.com:5000/"), name
    valkey = container(workload("one registry", "valkey"))["image"]
    assert valkey == f"mirror.example.com:5000/valkey/valkey@sha256:{'1' * 64}"


def test_every_service_has_the_families() -> None:
    services = [one for one in rendered("both address families") if one["kind"] == "Service"]
    assert len(services) == 5
    for one in services:
        assert one["spec"]["ipFamilyPolicy"] == "PreferDualStack"
        assert one["spec"]["ipFamilies"] == ["IPv6", "IPv4"]
    viewers = only("both address families", "Service", "tidegate")
    assert viewers["metadata"]["labels"]["a"] == "b"
    assert viewers["spec"]["trafficDistribution"] == "PreferSameZone"
    for one in rendered("defaults"):
        assert not {"ipFamilyPolicy", "ipFamilies"} & one.get("spec", {}).keys()


def test_valkey_listens_in_both_families() -> None:
    command = container(workload("defaults", "valkey"))["command"]
    assert "--bind '*' '-::*'" in command[2]


def test_an_autoscaler_without_the_operator() -> None:
    case = "an autoscaler without the operator"
    spec = only(case, "HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"]["name"] == "tidegate-gateway"
    assert (spec["minReplicas"], spec["maxReplicas"]) == (2, 10)
    assert [one["type"] for one in spec["metrics"]] == ["Resource", "Pods"]
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 600
    assert "replicas" not in workload(case, "gateway")["spec"]


def test_more_objects_are_rendered_as_templates() -> None:
    more = only("more objects", "ConfigMap", "tidegate-more")
    assert more["metadata"]["labels"]["app.kubernetes.io/instance"] == "tidegate"
    assert only("more objects", "ConfigMap", "as-text")["data"] == {"at": "80"}


@every_case
def test_labels_and_annotations_are_texts(case: str) -> None:
    for one in rendered(case):
        metadata = one["metadata"]
        for values in (metadata["labels"], metadata.get("annotations", {})):
            assert all(isinstance(value, str) for value in values.values()), metadata["name"]


def test_a_new_version_of_the_chart_alone_replaces_no_pod(tmp_path: Path) -> None:
    """Its label was in the pods, and in what the checksum of the settings was made of."""
    newer = tmp_path / "tidegate"
    shutil.copytree(CHART, newer)
    described = yaml.safe_load((newer / "Chart.yaml").read_text())
    described |= {"version": "9.9.9", "appVersion": "9.9.9"}
    (newer / "Chart.yaml").write_text(yaml.safe_dump(described))
    values = {**GENERATE, "image": {"tag": "pinned"}, "generateSecrets": "auto"}
    values |= {"auth": {"existingSecret": "a"}, "valkey": {"existingSecret": "b"}}
    made = []
    for chart in (CHART, newer):
        done = helm("template", "tidegate", str(chart), values=values)
        assert done.returncode == 0, done.stderr
        made.append([one for one in read(done.stdout) if "template" in one.get("spec", {})])
    before, after = made
    assert len(before) == 3
    for old, new in zip(before, after, strict=True):
        assert old["metadata"]["labels"] != new["metadata"]["labels"]
        assert old["spec"] == new["spec"]


def test_every_metric_of_a_rule_has_the_release() -> None:
    """So that each of two releases may bring its rules, and one that is gone is missed."""
    ours = 'namespace="some",release="tidegate"'
    metric = re.compile(r"\b(?:release:)?tidegate_[a-z0-9_:]+(.{0,60})")
    rules = [
        rule
        for one in rendered("monitoring")
        if one["kind"] == "PrometheusRule"
        for group in one["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) > 20
    for rule in rules:
        found = metric.findall(rule["expr"])
        assert found, rule
        assert all(after.startswith((f"{{{ours}}}", f"{{{ours},")) for after in found), rule
        assert "{" not in rule.get("record", "")


@pytest.mark.parametrize(
    ("case", "kind", "endpoints"),
    [
        ("monitoring by pod", "PodMonitor", "podMetricsEndpoints"),
        ("monitoring by service", "ServiceMonitor", "endpoints"),
    ],
)
def test_monitors_set_the_label_that_rules_and_boards_use(
    case: str, kind: str, endpoints: str
) -> None:
    """And then what the values add: the release may be called something else."""
    release = {"targetLabel": "release", "replacement": "tidegate"}
    monitors = [one for one in rendered(case) if "Monitor" in one["kind"]]
    assert [one["kind"] for one in monitors] == [kind, kind]
    for one in monitors:
        (endpoint,) = one["spec"][endpoints]
        assert endpoint["relabelings"] == [release, *OF_A_MONITOR["relabelings"]]
        for field in ("interval", "scrapeTimeout", "metricRelabelings"):
            assert endpoint[field] == OF_A_MONITOR[field]


def test_a_monitor_has_nothing_else_by_default() -> None:
    monitors = [one for one in rendered("monitoring") if one["kind"] == "PodMonitor"]
    for one in monitors:
        (endpoint,) = one["spec"]["podMetricsEndpoints"]
        assert endpoint.keys() == {"port", "path", "interval", "relabelings"}
        assert len(endpoint["relabelings"]) == 1
    assert len(monitors) == 2


def test_a_runbook_is_a_link() -> None:
    values = {"monitoring": {"prometheusRule": {"enabled": True, "runbookBase": "https://wiki/"}}}
    for made, base in (
        (rendered("monitoring"), "https://github.com/tidegate/tidegate/blob/main/"),
        (read(template(values).stdout), "https://wiki/"),
    ):
        links = {
            rule["annotations"]["runbook_url"]: rule["alert"]
            for one in made
            if one["kind"] == "PrometheusRule"
            for group in one["spec"]["groups"]
            for rule in group["rules"]
            if "alert" in rule
        }
        assert links == {f"{base}docs/runbooks/{name}.md": name for name in links.values()}
        assert "TidegateRolloutStuck" in links.values()


@pytest.mark.parametrize("field", ["gateway", "operator"])
def test_what_pods_are_selected_by_does_not_change(field: str) -> None:
    """A selector cannot be changed by an upgrade."""
    selectors = [
        workload(case, field)["spec"]["selector"]["matchLabels"]
        for case in ("defaults", "fields of all pods", "everything of a pod", "production")
    ]
    for first, second in itertools.pairwise(selectors):
        assert first == second
