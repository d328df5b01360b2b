"""What the chart renders, over a matrix of values: held against the code that will read it."""

from __future__ import annotations

import itertools
import json
import math
import re
import runpy
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.render import CASES, CHART, container, environment, helm, only, rendered, template
from tests.operator.secrets import Clock, Secrets
from tidegate.cli.settings_source import load_settings
from tidegate.model.settings import Settings
from tidegate_operator.kube.permissions import DEPLOYMENT, LEASE, OWN, PERMISSIONS, SECRETS
from tidegate_operator.loops.scope import Scope
from tidegate_operator.model.gateway import read_spec
from tidegate_operator.model.parts import KeyOf
from tidegate_operator.observe.redis_connection import RedisConnector, RedisNotConfigured
from tidegate_operator.settings import load_settings as load_operator_settings

pytestmark = pytest.mark.real("helm")
#: The tests of one case go to one worker, which renders it once.
every_case = pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.xdist_group(f"chart-{case}")) for case in CASES]
)
EACH_HELM = ("helm", pytest.param("helm3", marks=[pytest.mark.real("helm3"), pytest.mark.full]))
GATEWAY, OPERATOR = "tidegate-gateway", "tidegate-operator"


def name_of(case: str, component: str) -> str:
    return f"{CASES[case].get('fullnameOverride', 'tidegate')}-{component}"


# --- as a whole


@pytest.mark.parametrize("program", EACH_HELM)
@every_case
def test_helm_finds_nothing_to_complain_about(case: str, program: str) -> None:
    done = helm("lint", "--strict", str(CHART), values=CASES[case], program_name=program)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.real("helm3")
@every_case
def test_helm_3_and_4_render_the_same(case: str) -> None:
    """But for what is drawn by lot."""
    ours, others = (
        json.loads(json.dumps(rendered(case, program))) for program in ("helm", "helm3")
    )
    for one in (*ours, *others):
        if one["kind"] == "Secret":
            one["data"] = dict.fromkeys(one["data"])
        elif "template" in one.get("spec", {}):
            annotations = one["spec"]["template"]["metadata"].get("annotations", {})
            annotations.pop("checksum/secrets", None)
    assert ours == others


@every_case
def test_every_object_is_named_once_and_labelled(case: str) -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered(case)]
    assert len(names) == len(set(names))
    for one in rendered(case):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "tidegate"
        assert labels.items() >= CASES[case].get("commonLabels", {}).items()
        annotations = one["metadata"].get("annotations", {})
        assert annotations.items() >= CASES[case].get("commonAnnotations", {}).items()
        # Without it the release's namespace is the place for all.
        assert one["metadata"].get("namespace") == CASES[case].get("namespaceOverride")
        assert len(one["metadata"]["name"]) <= 63
        assert all(len(str(value)) <= 63 for value in labels.values())


@every_case
def test_services_and_budgets_select_pods_that_are_there(case: str) -> None:
    pods = [
        one["spec"]["template"]["metadata"]["labels"].items()
        for one in rendered(case)
        if one["kind"] in ("Deployment", "StatefulSet")
    ]
    for one in rendered(case):
        if one["kind"] == "Service":
            selector = one["spec"]["selector"]
        elif one["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            selector = one["spec"]["selector"]["matchLabels"]
        else:
            continue
        assert sum(labels >= selector.items() for labels in pods) == 1, one["metadata"]["name"]


def test_what_is_made_from_other_files_is_current() -> None:
    reference = runpy.run_path(str(CHART.parent / "reference.py"))
    assert reference["stale"]() == [], "run: make chart"


def test_the_version_is_that_of_the_package() -> None:
    from tidegate import __version__

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


# --- the gateway


@every_case
def test_the_gateway_takes_its_settings(case: str) -> None:
    """The file and the variables of the pod, read by the program that will read them."""
    deployment = only(case, "Deployment", name_of(case, "gateway"))
    text = only(case, "ConfigMap", name_of(case, "gateway"))["data"]["settings.yaml"]
    settings = _load(text, environment(deployment))
    assert settings.server.host == settings.server.admin_host == "::"
    assert settings.server.pod
    ports = {one["name"]: one["containerPort"] for one in container(deployment)["ports"]}
    assert ports == {"http": settings.server.port, "admin": settings.server.admin_port}
    wanted = CASES[case].get("settings", {})
    for group, fields in wanted.items():
        for field, value in fields.items():
            found = json.loads(getattr(settings, group).model_dump_json())[field]
            assert found == value, f"{group}.{field}"


def _load(text: str, env: dict[str, str]) -> Settings:
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "settings.yaml"
        file.write_text(text)
        return load_settings(environ={**env, "TIDEGATE_CONFIG": str(file)}).settings


@every_case
def test_the_grace_period_is_the_sum_of_what_a_pod_may_take(case: str) -> None:
    deployment = only(case, "Deployment", name_of(case, "gateway"))
    text = only(case, "ConfigMap", name_of(case, "gateway"))["data"]["settings.yaml"]
    settings = _load(text, environment(deployment))
    values = CASES[case].get("gateway", {})
    needed = (
        values.get("preStopSeconds", 3)
        + settings.drain.delay_s
        + settings.drain.window_s
        + settings.server.shutdown_timeout_s
        + settings.redis.reply_timeout_s
        + values.get("spareSeconds", 5)
    )
    pod = deployment["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == math.ceil(needed)


@every_case
def test_one_writer_of_replicas(case: str) -> None:
    deployment = only(case, "Deployment", name_of(case, "gateway"))
    values = CASES[case]
    wanted = values.get("gateway", {}).get("replicas")
    if values.get("operator", {}).get("enabled", True):
        assert "replicas" not in deployment["spec"]
        assert only(case, "Gateway")["spec"].get("replicas") == wanted
    else:
        assert deployment["spec"].get("replicas") == wanted


@every_case
def test_no_secret_is_in_a_configmap_or_an_argument(case: str) -> None:
    for one in rendered(case):
        if one["kind"] in ("ConfigMap", "Gateway"):
            assert "password:" not in json.dumps(one).lower()
    for one in rendered(case):
        if one["kind"] == "Secret":
            for value in one["data"].values():
                others = [other for other in rendered(case) if other is not one]
                assert value not in json.dumps(others)


def test_secrets_that_exist_are_not_made() -> None:
    assert not [one for one in rendered("existing secrets") if one["kind"] == "Secret"]
    assert not [one for one in rendered("production") if one["kind"] == "Secret"]
    made = {o["metadata"]["name"] for o in rendered("made secrets") if o["kind"] == "Secret"}
    assert made == {"tidegate-auth", "tidegate-publish", "tidegate-valkey"}


def test_a_change_of_settings_rolls_the_pods_and_nothing_else_does() -> None:
    key = "checksum/settings"
    before, same, other = (
        only(case, "Deployment", GATEWAY)["spec"]["template"]["metadata"]["annotations"][key]
        for case in ("defaults", "node port", "a slow drain")
    )
    assert before == same
    assert before != other


# --- the operator


@every_case
def test_the_operator_takes_its_settings_and_its_resource(case: str) -> None:
    if not CASES[case].get("operator", {}).get("enabled", True):
        kinds = {one["kind"] for one in rendered(case)}
        assert not kinds & {"Gateway", "Role", "Lease"}
        return
    name = name_of(case, "operator")
    env = environment(only(case, "Deployment", name)) | {
        "TIDEGATE_OPERATOR_NAMESPACE": "some",
        "TIDEGATE_OPERATOR_IDENTITY": "pod-1",
    }
    settings = load_operator_settings({}, env)
    # The operator makes it: there are tools that never create one (Argo CD), and without it an
    # operator did nothing.
    assert "Lease" not in {one["kind"] for one in rendered(case)}
    assert settings.lease == name
    assert settings.pod_uid
    assert settings.host == "::"
    assert settings.port == container(only(case, "Deployment", name))["ports"][0]["containerPort"]
    resource = only(case, "Gateway")
    spec = read_spec(resource["spec"])
    assert spec.target.name == name_of(case, "gateway")
    # And nothing but this one is what it serves.
    assert settings.gateway == resource["metadata"]["name"]
    scope = Scope.of(settings)
    scope.check(spec)
    assert (scope.target, scope.key_prefix) == (spec.target.name, spec.streams.prefix)


@pytest.mark.parametrize(
    ("case", "refused"),
    [
        ("defaults", "tidegate-valkey:6380,mine"),
        ("existing secrets", "mine"),
        ("redis with tls", "one:6379,mine"),
        ("redis cluster with tls", "one:6379,two:7002"),
        ("more hosts of redis", "one:6379,four,mine"),
    ],
)
async def test_a_password_goes_to_the_hosts_of_the_values_only(case: str, refused: str) -> None:
    """All of an address, Sentinels and nodes of a Cluster among them, and no other one."""
    env = environment(only(case, "Deployment", OPERATOR)) | {
        "TIDEGATE_OPERATOR_NAMESPACE": "some",
        "TIDEGATE_OPERATOR_IDENTITY": "pod-1",
    }
    secrets = Secrets()
    source = read_spec(only(case, "Gateway")["spec"]).redis
    for key in (source.password_secret, source.ca_secret):
        if key is not None:
            secrets.values.setdefault(key.name, {})[key.key] = "geheim"
    source = source.model_copy(update={"ca_secret": None, "certificate_secret": None})
    connector = RedisConnector(secrets, load_operator_settings({}, env), Clock())
    try:
        assert (await connector.open(source)).topology.address.password == "geheim"
        for host in refused.split(","):
            other = source.model_copy(update={"url": f"redis://{host}"})
            with pytest.raises(RedisNotConfigured, match="so not to"):
                await connector.open(other)
    finally:
        await connector.close()


@every_case
def test_the_operator_has_a_place_for_the_certificates_of_redis(case: str) -> None:
    """It had none, on a read-only root: with `redis.tls.secret` it never reached Redis."""
    if not CASES[case].get("operator", {}).get("enabled", True):
        return
    deployment = only(case, "Deployment", name_of(case, "operator"))
    first = container(deployment)
    assert first["securityContext"]["readOnlyRootFilesystem"] is True
    (mount,) = (one for one in first["volumeMounts"] if one["mountPath"] == "/tmp")
    assert not mount.get("readOnly")
    volumes = {one["name"]: one for one in deployment["spec"]["template"]["spec"]["volumes"]}
    assert "emptyDir" in volumes[mount["name"]]


@pytest.mark.parametrize("case", [case for case in CASES if "redis" in case])
def test_the_operator_logs_in_to_redis_as_the_gateway_does(case: str) -> None:
    """And may read what it needs for that, and no other Secret."""
    deployment = only(case, "Deployment", GATEWAY)
    pod = deployment["spec"]["template"]["spec"]
    variables = {one["name"].lower(): one for one in container(deployment)["env"]}
    source = read_spec(only(case, "Gateway")["spec"], strict=True).redis

    def value(name: str) -> str | None:
        one: str | None = variables.get(f"tidegate_redis__{name}", {}).get("value")
        return one

    def secret(name: str) -> KeyOf | None:
        place = variables.get(f"tidegate_redis__{name}", {}).get("valueFrom")
        return place and KeyOf.model_validate(place["secretKeyRef"])

    assert (source.url, source.url_secret) == (value("url"), secret("url"))
    assert (source.username, source.password_secret) == (value("username"), secret("password"))
    assert source.sentinel_username == value("sentinel_username")
    assert source.sentinel_password_secret == secret("sentinel_password")
    gateways = CASES[case].get("settings", {}).get("redis", {})
    assert source.check_hostname == gateways.get("tls_check_hostname", True)
    named = {one.name for name in ("url", "password", "sentinel_password") if (one := secret(name))}
    folder = "/etc/tidegate/redis-tls"
    authority, certificate = source.ca_secret, source.certificate_secret
    files = {one.name for one in (authority, certificate) if one is not None}
    assert value("tls_ca_file") == (authority and f"{folder}/{authority.key}")
    assert value("tls_cert_file") == (certificate and f"{folder}/{certificate.cert_key}")
    assert value("tls_key_file") == (certificate and f"{folder}/{certificate.key_key}")
    volumes = [one["secret"]["secretName"] for one in pod["volumes"] if one["name"] == "redis-tls"]
    assert set(volumes) == files
    rules = [one for one in only(case, "Role")["rules"] if one["resources"] == ["secrets"]]
    assert {name for rule in rules for name in rule["resourceNames"]} == named | files


@every_case
def test_what_is_left_in_a_redis_of_ones_own_is_removed_after_the_release(
    case: str, tmp_path: Path
) -> None:
    """Not before: a gateway that runs makes it again, and a Redis that is away would stop it."""
    operator, redis = CASES[case].get("operator", {}), CASES[case].get("redis", {})
    name = name_of(case, "clean-up")
    found = [one for one in rendered(case) if one["metadata"]["name"] == name]
    if not operator.get("enabled", True) or not (redis.get("url") or redis.get("urlKey")):
        assert found == []  # the built-in one goes with the release
        return
    assert {one["kind"] for one in found} == {"ConfigMap", "Job"}
    for one in found:
        assert one["metadata"]["annotations"]["helm.sh/hook"] == "post-delete"
    job, files = only(case, "Job", name), only(case, "ConfigMap", name)["data"]
    # Nothing of the release is there any more: no account, and no Secret that it made.
    pod = job["spec"]["template"]["spec"]
    assert "serviceAccountName" not in pod
    made = {one["metadata"]["name"] for one in rendered(case) if one["kind"] == "Secret"}
    text = json.dumps(pod)
    assert not [one for one in made if f'"{one}"' in text]
    # It takes its settings and its streams.
    for file, content in files.items():
        (tmp_path / file).write_text(content)
    variables = environment(job) | {"TIDEGATE_CONFIG": str(tmp_path / "settings.yaml")}
    settings = load_settings(environ=variables).settings
    assert settings.redis.url is not None
    resource = only(case, "Gateway")["spec"]
    spec = {**resource, "streams": yaml.safe_load(files["gateway.yaml"])["spec"]["streams"]}
    assert read_spec(spec, strict=True).streams == read_spec(resource).streams
    first = container(job)
    assert first["command"] + first["args"][:2] == ["tidegate-operator", "sweep", "--uninstall"]
    grace = only(case, "Deployment", name_of(case, "gateway"))["spec"]["template"]["spec"]
    wait_s = int(first["args"][-1].removesuffix("s"))
    assert wait_s >= grace["terminationGracePeriodSeconds"] + settings.slots.lease_s


def test_who_does_not_want_it_removed_says_so() -> None:
    """Also who does not want the operator to touch any stream: it would have given them a TTL."""
    assert "post-delete" in template(CASES["one redis with tls"]).stdout
    for no in ({"operator": {"cleanUpOnUninstall": False}}, {"streams": {"enabled": False}}):
        assert "post-delete" not in template({**CASES["one redis with tls"], **no}).stdout


def test_prefix_and_group_of_the_streams_are_the_gateways() -> None:
    streams = only("streams", "Gateway")["spec"]["streams"]
    assert streams == {"dryRun": True, "prefix": "jobs:", "group": "other"}


@every_case
def test_the_role_is_what_the_operator_says_it_needs(case: str) -> None:
    values = CASES[case].get("operator", {})
    if not (values.get("enabled", True) and values.get("rbac", {}).get("create", True)):
        assert not [one for one in rendered(case) if one["kind"] == "Role"]
        return
    granted: set[tuple[str, str, str]] = set()
    for rule in only(case, "Role")["rules"]:
        granted |= {
            (group, resource, verb)
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
    keda = CASES[case].get("scaling", {}).get("mode") == "keda"
    features = {"", "keda"} if keda else {""}
    needed = {
        (one.group, one.resource, verb)
        for one in PERMISSIONS
        for verb in one.verbs
        if one.when in features
    }
    redis = CASES[case].get("redis", {})
    if redis.get("url") and not redis.get("existingSecret"):
        needed.remove(("", "secrets", "get"))
    assert granted == needed


@every_case
def test_named_permissions_are_for_names_only(case: str) -> None:
    """The Deployment above all: a Gateway scaled that of another team."""
    gateway, target = name_of(case, "").removesuffix("-"), name_of(case, "gateway")
    names = {OWN: [gateway], DEPLOYMENT: [target], LEASE: [name_of(case, "operator")]}
    only_on = {
        (one.group, one.resource, verb): one.only for one in PERMISSIONS for verb in one.verbs
    }
    for role in rendered(case):
        for rule in role.get("rules", ()) if role["kind"] == "Role" else ():
            for resource, verb in itertools.product(rule["resources"], rule["verbs"]):
                what = only_on[rule["apiGroups"][0], resource, verb]
                given = rule.get("resourceNames")
                if what == SECRETS:
                    assert given, rule
                else:
                    assert given == names.get(what), rule


# --- the world outside


def sources(case: str, component: str, port: int) -> list[Any]:
    """Who may reach this port, by the NetworkPolicy; none: everybody."""
    policy = only(case, "NetworkPolicy", f"tidegate-{component}")
    (found,) = (r for r in policy["spec"]["ingress"] if r["ports"][0]["port"] == port)
    return list(found.get("from", ()))


def test_whoever_was_in_the_cluster_reached_the_admin_port() -> None:
    """Unless `networkPolicy.enabled` was set, which is about everything else as well."""
    for case, named in (("defaults", []), ("admin namespaces", ["monitoring", "people"])):
        for component, port in (("gateway", 9090), ("operator", 9091)):
            policy = only(case, "NetworkPolicy", f"tidegate-{component}")
            assert policy["spec"]["policyTypes"] == ["Ingress"]
            assert "egress" not in policy["spec"]
            peers = sources(case, component, port)
            if component == "gateway":
                *peers, _ = peers  # the pod of `helm test`
            selectors = [
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}
                for name in named
            ]
            assert peers == (selectors or [{"podSelector": {}}])
        assert sources(case, "gateway", 8080) == []
    made = {
        case: {one["metadata"]["name"] for one in rendered(case) if one["kind"] == "NetworkPolicy"}
        for case in ("defaults", "no network policies")
    }
    assert made["defaults"] == {"tidegate-gateway", "tidegate-operator"}
    assert made["no network policies"] == set()


def test_network_policies_let_the_test_of_helm_in() -> None:
    """Once they did not, with `viewersFrom` or for the metrics: `helm test` then waited in vain."""
    labels = only("network policies", "Pod")["metadata"]["labels"].items()
    for case in ("network policies", "production"):
        ports = [("gateway", 9090)] + [("gateway", 8080)] * (case == "network policies")
        for component, port in ports:
            selectors = [one.get("podSelector") for one in sources(case, component, port)]
            assert any(s and labels >= s["matchLabels"].items() for s in selectors), (case, port)
    assert sources("production", "gateway", 8080) == []
    valkey = [one["podSelector"] for one in sources("network policies", "valkey", 6379)]
    assert any(labels >= one["matchLabels"].items() for one in valkey)


def test_an_external_redis_may_be_reached_with_its_sentinels() -> None:
    for component in ("gateway", "operator"):
        policy = only("production", "NetworkPolicy", f"tidegate-{component}")
        ports = [{p["port"] for p in rule["ports"]} for rule in policy["spec"]["egress"]]
        assert {6379, 26379} in ports


def test_a_volume_stays_unless_it_is_said_that_it_goes() -> None:
    kept = only("valkey on a volume", "StatefulSet")["spec"]
    assert kept["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Retain"
    gone = only("a volume that goes", "StatefulSet")["spec"]
    assert gone["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete"
    assert gone["volumeClaimTemplates"][0]["metadata"]["name"] == "data"
    assert "volumeClaimTemplates" not in only("defaults", "StatefulSet")["spec"]


def test_a_route_removes_its_prefix() -> None:
    """The gateway has no setting for one: every path below `/progress` was unknown to it."""
    (rule,) = only("gateway api with a prefix", "HTTPRoute")["spec"]["rules"]
    rewrite = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    assert rule["filters"] == [{"type": "URLRewrite", "urlRewrite": rewrite}]
    (rule,) = only("gateway api", "HTTPRoute")["spec"]["rules"]
    assert "filters" not in rule


def test_routes_let_a_websocket_live() -> None:
    annotations = only("ingress", "Ingress")["metadata"]["annotations"]
    assert int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"]) >= 3600
    (rule,) = only("gateway api", "HTTPRoute")["spec"]["rules"]
    assert rule["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    (rule,) = only("gateway api without time-outs", "HTTPRoute")["spec"]["rules"]
    assert "timeouts" not in rule


def test_boards_and_rules_are_the_files_of_the_dashboards() -> None:
    sources = CHART.parents[1] / "dashboards"
    boards = [one for one in rendered("monitoring") if "-board-" in one["metadata"]["name"]]
    packaged = {name: text for board in boards for name, text in board["data"].items()}
    assert {name: json.loads(text) for name, text in packaged.items()} == {
        path.name: json.loads(path.read_text()) for path in (sources / "boards").glob("*.json")
    }
    assert all(one["metadata"]["labels"]["grafana_dashboard"] == "1" for one in boards)
    rules = [one for one in rendered("monitoring") if one["kind"] == "PrometheusRule"]
    groups = [group["name"] for rule in rules for group in rule["spec"]["groups"]]
    expected = [
        group["name"]
        for path in sorted((sources / "rules").glob("*.yaml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    assert sorted(groups) == sorted(expected)


def test_a_group_of_which_nothing_is_left_is_that_of_the_defaults() -> None:
    """A key with only comments below it is null, and templates ended with words of Go."""
    values = dict.fromkeys(("settings", "scaling", "rebalance", "streams"))
    done = template({**values, "auth": {"mode": "none"}, "redis": {"url": "redis://a"}})
    assert done.returncode == 0, done.stderr
    assert done.stdout == template({"auth": {"mode": "none"}, "redis": {"url": "redis://a"}}).stdout


# --- what is refused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replica": 3}}, "replica"),
        ({"gateway": {"replicas": -1}}, "/gateway/replicas"),
        ({"settings": {"viewer": {"high_water": 1}}}, "high_water"),
        ({"settings": {"drain": {"window_s": -1}}}, "/settings/drain/window_s"),
        ({"settings": {"auth": {"secret": "in-a-configmap"}}}, "secret"),
        ({"settings": {"redis": {"password": "in-a-configmap"}}}, "password"),
        ({"settings": {"redis": {"url": "redis://which-of-the-two"}}}, "url"),
        ({"settings": {"server": {"port": 9000}}}, "port"),
        ({"settings": {"source": {"kind": "http"}}}, "kind"),
        ({"ingress": {"path": "no-slash"}}, "/ingress/path"),
        ({"networkPolicy": {"redisPorts": [0]}}, "/networkPolicy/redisPorts"),
        ({"scaling": {"min": 0}}, "/scaling/min"),
        ({"scaling": {"modus": "none"}}, "modus"),
        ({"streams": {"prefix": ""}}, "/streams/prefix"),
        ({"auth": {"mode": "basic"}}, "/auth/mode"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"redis": {"url": "redis://user:secret@host"}}, "/redis/url"),
        ({"redis": {"urlKey": "url"}}, "set redis.existingSecret as well"),
        ({"redis": {"tls": {"secret": "s", "certKey": "c"}}}, "redis.tls.keyKey go together"),
        (
            {"redis": {"url": "redis+sentinel://a/b", "sentinelPasswordKey": "c"}},
            "redis.sentinelPasswordKey names a key of redis.existingSecret",
        ),
        (
            {"redis": {"url": "redis+sentinel://a/b", "sentinelUsername": "c"}},
            "set redis.sentinelPasswordKey as well",
        ),
        ({"settings": {"redis": {"sentinel_username": "me"}}}, "sentinel_username"),
        ({"settings": {"redis": {"key_prefix": "op:"}}}, "prefixes of 4 to 128 characters"),
        ({"streams": {"prefix": "op:"}}, "/streams/prefix"),
        ({"valkey": {"enabled": False}}, "there is no Redis: set redis.url"),
        (
            {"redis": {"url": "redis://a", "existingSecret": "b", "urlKey": "c"}},
            "redis.url and redis.urlKey exclude each other",
        ),
        (
            {"auth": {"existingSecret": "a", "publicKeysSecret": "b"}},
            "auth.existingSecret and auth.publicKeysSecret are mutually exclusive",
        ),
        ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
        ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
        ({"valkey": {"maxMemory": "lots; rm -rf /"}}, "/valkey/maxMemory"),
        ({"valkey": {"fsync": "$(reboot)"}}, "/valkey/fsync"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], said: str) -> None:
    done = template(values)
    assert done.returncode != 0
    # Helm 3 writes dots where Helm 4 writes slashes.
    assert said in done.stderr or said.strip("/").replace("/", ".") in done.stderr


def test_every_value_is_described() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def bare(node: dict[str, Any], path: str) -> list[str]:
        found = []
        for name, one in node.get("properties", {}).items():
            if not one.get("description"):
                found.append(f"{path}{name}")
            found += bare(one, f"{path}{name}.")
        return found

    assert bare({"properties": schema["properties"]}, "") == []


def test_the_readme_of_values_names_each_of_them() -> None:
    readme = (CHART / "README.md").read_text()
    rows = set(re.findall(r"^\| `([\w.]+)` \|", readme, flags=re.MULTILINE))
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def leaves(node: Any, path: str) -> set[str]:
        if not isinstance(node, dict) or not node or path in rows:
            return {path}
        return {
            leaf for key, one in node.items() for leaf in leaves(one, f"{path}.{key}".strip("."))
        }

    assert leaves(values, "") == rows
