"""The chart on a real cluster, hurt while viewers watch; the cases go on from one another.

Viewers and publishers come from outside through NodePorts; what they must get is judged as in
`tests/faults`. Each case writes its figures (`report`).
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.cluster import notes, report, volume
from tests.cluster.adapter import external_metrics
from tests.cluster.crowd import watching
from tests.cluster.kube import Cluster, CommandFailed, is_ready, restarts
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, SCALING_BY_LOAD, Release, images, merge
from tidegate_operator.kube.permissions import PERMISSIONS

#: As OpenShift assigns ids: no file of the image knows the user, and the group is 0.
ANY_USER = {"runAsUser": 1_000_680_000, "runAsGroup": 0, "fsGroup": 1_000_680_000}
#: From here on viewers need no token, and a pod's end is short, so that a run is.
UNDER_TEST: dict[str, Any] = {
    "auth": {"mode": "none"},
    # Its viewers come by the addresses of nodes and pods.
    "settings": {"drain": {"delay_s": 1, "window_s": 4}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {"minReadySeconds": 1, "preStopSeconds": 2, "podSecurityContext": ANY_USER},
    "operator": {"intervalSeconds": 1, "podSecurityContext": ANY_USER},
    "scaling": {"mode": "none"},
}
#: The one node is drained, and what goes must come back to it: nobody else minds the mark.
DRAINED = {"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}
GATEWAY_PODS = "app.kubernetes.io/component=gateway"


async def scale(release: Release, pods: int) -> float:
    """`kubectl scale gateway`, and the seconds until so many pods are ready and the others gone."""
    began = time.monotonic()
    await release.cluster.kubectl("scale", f"gateways.tidegate.dev/{NAME}", f"--replicas={pods}")
    await release.settled(pods)
    return time.monotonic() - began


async def test_install_brings_up_everything(release: Release, cluster: Cluster) -> None:
    try:
        await cluster.kubectl("create", "namespace", cluster.namespace)
        level = "pod-security.kubernetes.io/enforce=restricted"
        await cluster.kubectl("label", "namespace", cluster.namespace, level)
        began = time.monotonic()
        values = merge(images(), await volume.make(cluster))
        # All that the operator does in these cases it may do under the policy, too.
        values = merge(values, {"operator": {"rbac": {"admissionPolicy": True}}})
        told = await release.install(values)
        # helm waits for one pod; that there are two is the operator's doing.
        await release.settled(2)
        took = time.monotonic() - began
        await release.healthy()
    except (CommandFailed, TimeoutError) as error:
        pytest.exit(f"nothing to go on with: {error}\n{await cluster.events()}", 1)
    assert "Next steps" in told
    for component, count in (("gateway", 2), ("operator", 2), ("valkey", 1)):
        assert await cluster.ready(component, count), component
        assert restarts(await cluster.pods(component)) == 0, component
    report.write({"name": "install", "seconds_to_ready": round(took, 1)})


async def test_helm_test_publishes_and_watches_with_a_token(cluster: Cluster) -> None:
    shown = await cluster.helm("test", NAME, "--logs")
    assert "5 updates arrived, each once and in order" in shown


async def test_the_commands_of_the_notes_work(cluster: Cluster) -> None:
    """As they are printed, with a token: the default."""
    shown = await notes.follow(cluster, "with-a-token")
    assert "/sse/operations/" in shown.command
    assert '"progress":0.5' in shown.seen
    assert '"status":"completed"' in shown.seen


async def test_the_image_is_bare(cluster: Cluster) -> None:
    """Looked at from inside a pod."""
    look = (
        "import json, os, shutil; names = ('cc', 'gcc', 'g++', 'clang', 'make', 'ld'); "
        "print(json.dumps({'user': os.getuid(), 'writable': os.statvfs('/').f_flag & 1 == 0, "
        "'compilers': [name for name in names if shutil.which(name)], "
        "'pip': os.path.exists('/opt/tidegate/bin/pip'), "
        "'programs': [name for name in ('tidegate', 'tidegate-operator') if shutil.which(name)]}))"
    )
    found = await cluster.kubectl("exec", f"deploy/{NAME}-gateway", "--", "python", "-c", look)
    assert json.loads(found) == {
        "user": 10001,
        "writable": False,
        "compilers": [],
        "pip": False,
        "programs": ["tidegate", "tidegate-operator"],
    }


async def test_an_upgrade_of_the_settings(release: Release, cluster: Cluster) -> None:
    """The viewers of the next cases need what it changes; the image runs as any user from here."""
    values = merge(UNDER_TEST, {"valkey": DRAINED, "gateway": DRAINED, "operator": DRAINED})
    await release.upgrade(values)
    await scale(release, 2)
    look = ("python", "-c", "import os; print(os.getuid(), os.getgid())")
    for component in ("gateway", "operator"):
        found = await cluster.kubectl("exec", f"deploy/{NAME}-{component}", "--", *look)
        assert found.split() == [str(ANY_USER["runAsUser"]), "0"]


async def test_both_address_families(release: Release, cluster: Cluster) -> None:
    """Pods and Services by their IPv6 addresses; `0.0.0.0` was fixed, so nobody reached them."""
    (pod, *_) = await cluster.pods("gateway")
    if len(pod["status"]["podIPs"]) < 2:
        pytest.skip("the cluster has one address family")
    await release.upgrade({"service": {"ipFamilyPolicy": "RequireDualStack"}})
    asked = []
    for component, port in (("gateway", 8080), ("gateway", 9090), ("operator", 9091)):
        for one in await cluster.pods(component):
            asked += [(address["ip"], port) for address in one["status"]["podIPs"]]
    for name, port in ((NAME, 80), (f"{NAME}-valkey", 6379)):
        service = await cluster.get("service", name)
        assert len(service["spec"]["clusterIPs"]) == 2
        asked += [(address, port) for address in service["spec"]["clusterIPs"]]
    assert sum(":" in address for address, _ in asked) == len(asked) / 2
    look = (
        "import json, socket, sys\n"
        "for address, port in json.loads(sys.argv[1]):\n"
        "    socket.create_connection((address, port), timeout=5).close()\n"
    )
    words = ("--", "python", "-c", look, json.dumps(asked))
    await cluster.kubectl("exec", f"deploy/{NAME}-gateway", *words)


async def test_the_notes_without_tokens(cluster: Cluster) -> None:
    shown = await notes.follow(cluster, "without-a-token")
    assert "tidegate watch" in shown.command
    assert "0.5" in shown.seen
    assert "completed" in shown.seen


async def test_scaling_by_hand(release: Release) -> None:
    async with watching(release, "scale 2 to 5 to 2 by hand", viewers=100) as crowd:
        crowd.note("seconds to 5", round(await scale(release, 5), 1))
        await crowd.recover()
        crowd.note("seconds to 2", round(await scale(release, 2), 1))
        await crowd.recover()


async def test_a_killed_gateway_pod(release: Release, cluster: Cluster) -> None:
    async with watching(release, "kill -9 of a gateway pod", viewers=100) as crowd:
        pods = await cluster.pods("gateway")
        crowd.blow()
        await cluster.kill_container(pods[0])
        await until(lambda: _some_cut(crowd), "viewers that were cut")
        await release.settled(2)
        await crowd.recover()


async def _some_cut(crowd: Any) -> bool:
    return bool(crowd.left())


async def test_a_rolling_upgrade(release: Release, cluster: Cluster) -> None:
    before = {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}
    async with watching(release, "rolling upgrade of the chart", viewers=100) as crowd:
        began = time.monotonic()
        # Viewers come to pods by chance. In the cases to come sockets must be kept, and nobody may
        # be moved for evenness.
        await release.upgrade(
            {"settings": {"viewer": {"history_entries": 50}}, "rebalance": {"enabled": False}}
        )
        await release.settled(2)
        crowd.note("seconds", round(time.monotonic() - began, 1))
        await crowd.recover()
    after = {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}
    assert not before & after


async def test_a_killed_operator_leader(release: Release, cluster: Cluster) -> None:
    async with watching(release, "kill -9 of the operator's leader", viewers=50) as crowd:
        leader = await release.leader()
        pods = {pod["metadata"]["name"]: pod for pod in await cluster.pods("operator")}
        await cluster.kill_container(pods[leader])
        killed = time.time()
        await cluster.kubectl("delete", "pod", leader, "--force", "--grace-period=0")

        async def taken_over() -> bool:
            return await release.leader() not in ("", leader)

        await until(taken_over, "a new leader")
        # By the Lease, whose clock is this machine's: looking takes its time when it is busy.
        took = await release.led_since() - killed
        crowd.note("take-over seconds", round(took, 1))
        crowd.note("seconds to 3 under the new one", round(await scale(release, 3), 1))
        await crowd.recover()
    await scale(release, 2)


async def test_a_deleted_lease(release: Release, cluster: Cluster) -> None:
    """Who deploys without Leases, or deletes the operator's, is not left without an operator."""
    before = restarts(await cluster.pods("operator"))
    leader = await release.leader()
    for _ in range(3):
        await cluster.kubectl("delete", "lease", f"{NAME}-operator")

        async def made_again() -> bool:
            return await release.leader() == leader

        await until(made_again, "the Lease, made again by its leader")
    lease = await cluster.get("lease", f"{NAME}-operator")
    assert [(one["kind"], one["name"]) for one in lease["metadata"]["ownerReferences"]] == [
        ("Pod", leader)
    ]
    await scale(release, 3)
    await scale(release, 2)
    assert restarts(await cluster.pods("operator")) == before


async def test_a_killed_valkey(release: Release, cluster: Cluster) -> None:
    before = await cluster.pods("gateway")
    async with watching(release, "kill -9 of Valkey, with its log on disk", viewers=100) as crowd:
        (valkey,) = await cluster.pods("valkey")
        began = time.monotonic()
        await cluster.kill_container(valkey)
        await asyncio.sleep(1)  # so that what comes next was written after it
        await crowd.recover()
        crowd.note("seconds until everybody has news", round(time.monotonic() - began, 1))
        # Sockets were kept: the gateway told its viewers, and nobody had to come back.
        crowd.note("connections cut", crowd.left())
        assert crowd.left() == 0
    after = await cluster.pods("gateway")
    assert [p["metadata"]["name"] for p in before] == [p["metadata"]["name"] for p in after]
    assert restarts(after) == restarts(before)
    # The kubelet asks every 2 s.
    await until(partial(cluster.ready, "gateway", len(before)), "ready gateway pods")


async def test_a_node_that_is_drained(release: Release, cluster: Cluster) -> None:
    """All pods of the release: gateway, operator, and Valkey, whose volume stays."""
    async with watching(release, "kubectl drain of the node", viewers=100) as crowd:
        before = await release.pods()
        node = before[0]["spec"]["nodeName"]
        least = asyncio.create_task(_least_ready(cluster))
        began = time.monotonic()
        try:
            told = await cluster.drain(node, selector=f"app.kubernetes.io/instance={NAME}")
            crowd.note("seconds of kubectl drain", round(time.monotonic() - began, 1))
        finally:
            await cluster.uncordon(node)
        await release.settled(2)
        for component, count in (("operator", 2), ("valkey", 1)):
            await until(partial(cluster.ready, component, count), f"the {component}")
        crowd.note("seconds until all are back", round(time.monotonic() - began, 1))
        least.cancel()
        with suppress(asyncio.CancelledError):
            await least
        await crowd.recover()
        refused = told.count("Cannot evict pod as it would violate the pod's disruption budget")
        crowd.note("evictions refused by the budgets", refused)
    assert f"node/{node} drained" in told
    assert refused, "the budgets let all pods go at once"
    stayed = {pod["metadata"]["uid"] for pod in before} & {
        pod["metadata"]["uid"] for pod in await release.pods()
    }
    assert not stayed


async def _least_ready(cluster: Cluster) -> None:
    """Until it is cancelled, or Valkey goes, a gateway pod is ready at any look: none is without
    Redis for longer than 15 s, and how long Valkey takes to be back is the node's affair.
    """
    while any(is_ready(pod) for pod in await cluster.pods("valkey")):
        assert any(is_ready(pod) for pod in await cluster.pods("gateway"))
        await asyncio.sleep(0.5)


# --- scaling by load


async def test_scaling_by_load(release: Release, cluster: Cluster) -> None:
    await release.upgrade(SCALING_BY_LOAD)
    await release.settled(2)
    async with watching(release, "internal scaling with 300 viewers", viewers=60) as crowd:
        began = time.monotonic()
        await crowd.join(240)
        await release.settled(3)
        crowd.note("seconds to 3", round(time.monotonic() - began, 1))
        assert (await release.gateway())["status"]["desiredReplicas"] == 3

        async def even() -> bool:
            counts = (await release.connections()).values()
            return len(counts) == 3 and max(counts) <= 1.2 * sum(counts) / 3

        took = await until(even, "viewers on the new pod")
        crowd.note("seconds until even", round(took, 1))
        crowd.note("connections when even", sorted((await release.connections()).values()))
        await crowd.recover()

        # The number of `kubectl scale` is the least there may be, and was 2.
        await cluster.kubectl("scale", f"gateways.tidegate.dev/{NAME}", "--replicas=1")
        began = time.monotonic()
        async with leaving(release) as departures:
            await crowd.finish_some(8)  # 60 viewers stay
            await release.settled(1)
        crowd.note("seconds to 1", round(time.monotonic() - began, 1))
        assert len(departures) == 2, departures
        for one in departures:
            left = len(one.counts) - 1
            crowd.note(f"connections of who went, {left} stayed", one.counts[one.pod])
            crowd.note(f"connections of all, before {left} stayed", sorted(one.counts.values()))
            assert one.costs[one.pod] == min(one.costs.values()), one
            # The costs are of figures some seconds old, and the viewers of who went before are on
            # their way to the others meanwhile: a few may make a near tie look the other way round.
            few = sum(one.counts.values()) / 10
            assert one.counts[one.pod] <= min(one.counts.values()) + few, one
        await crowd.recover()


class Departure(NamedTuple):
    """A pod that was deleted, and of all that were there then: deletion costs, connections."""

    pod: str
    costs: dict[str, int]
    counts: dict[str, int]


@asynccontextmanager
async def leaving(release: Release) -> AsyncIterator[list[Departure]]:
    """Who goes meanwhile, in order."""
    annotation = "controller.kubernetes.io/pod-deletion-cost"
    departures: list[Departure] = []
    #: The last connections in which a pod was told of: who is on the way out tells none.
    last: dict[str, dict[str, int]] = {}

    async def look() -> None:
        pods = (await release.cluster.get("pods", "--selector", GATEWAY_PODS))["items"]
        there = {pod["metadata"]["name"]: pod for pod in pods}
        for one in departures:
            there.pop(one.pod, None)
        costs = {
            name: int(pod["metadata"]["annotations"].get(annotation, 0))
            for name, pod in there.items()
        }
        for name in sorted(costs, key=costs.__getitem__):
            if "deletionTimestamp" in there[name]["metadata"]:
                counts = {one: last[name][one] for one in costs if one in last[name]}
                departures.append(Departure(name, dict(costs), counts))
                del costs[name]  # who went after it is not compared with it
        # A pod whose end comes in between answers no more, and the next look sees it go.
        with suppress(CommandFailed):
            counts = await release.connections()
            last.update(dict.fromkeys(counts, counts))

    async def watch() -> None:
        while True:
            await look()
            await asyncio.sleep(0.3)

    await look()
    async with asyncio.TaskGroup() as tasks:
        watcher = tasks.create_task(watch())
        yield departures
        watcher.cancel()


def autoscaled(goals: dict[str, Any], cpu: str) -> dict[str, Any]:
    """Values of mode `hpa`; `cpu` is the request that per cents are of."""
    return {
        "scaling": {
            "mode": "hpa",
            "min": 2,
            "hpa": goals,
            "up": {"periodS": 15},
            "down": {"windowS": 15, "periodS": 15, "maxPercent": 100},
        },
        "rebalance": {"enabled": False},
        "gateway": {"resources": {"requests": {"cpu": cpu}}},
    }


async def autoscalers(cluster: Cluster) -> list[Any]:
    return list((await cluster.get("horizontalpodautoscalers"))["items"])


async def test_an_autoscaler_by_an_external_metric(release: Release, cluster: Cluster) -> None:
    goals = {"external": [{"metric": "tidegate_connections", "perPod": 60}]}
    try:
        async with external_metrics(cluster):
            await release.upgrade(autoscaled(goals, "100m"))
            await until(lambda: autoscalers(cluster), "an HPA")
            await release.settled(2)
            async with watching(release, "hpa on an external metric", viewers=150) as crowd:
                began = time.monotonic()
                await release.settled(3)
                crowd.note("seconds to 3", round(time.monotonic() - began, 1))
                await crowd.recover()
    except LookupError as error:
        pytest.skip(str(error))


async def test_an_autoscaler_by_cpu_and_its_end(release: Release, cluster: Cluster) -> None:
    # An idle pod takes 8m to 10m: at a request of 10m it was at the target by itself, and the
    # number of pods never settled. The viewers of a test take it well above 20m.
    await release.upgrade(autoscaled({"external": [], "cpuPercent": 80}, "25m"))
    await release.settled(2)
    async with watching(release, "hpa on CPU, by metrics-server", viewers=200) as crowd:
        began = time.monotonic()

        async def more() -> bool:
            return len(await cluster.pods("gateway")) > 2

        await until(more, "a pod more by the HPA")
        crowd.note("seconds to a pod more", round(time.monotonic() - began, 1))
        (hpa,) = await autoscalers(cluster)
        crowd.note("cpu per cent of the request", _cpu(hpa))
        # A change of the goal is carried over, and another mode takes the HPA away.
        await release.upgrade({"scaling": {"hpa": {"cpuPercent": 300}}})
        await release.upgrade({"scaling": {"mode": "none"}})

        async def gone() -> bool:
            return not await autoscalers(cluster)

        await until(gone, "the end of the HPA")
        await scale(release, 2)
        await crowd.recover()


def _cpu(hpa: Any) -> object:
    found = hpa["status"].get("currentMetrics") or ()
    return [one["resource"]["current"]["averageUtilization"] for one in found]


# --- what must be refused


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scaling": {"min": 5, "max": 2}}, "scaling.min must be at most scaling.max"),
    ({"scaling": {"mode": "magic"}}, "spec.scaling.mode"),
    ({"scaling": {"mode": "keda"}}, "scaling.keda needs a trigger"),
    ({"target": {"name": "another"}}, "target.name is immutable"),
]


async def test_bad_gateways_are_refused_or_told_and_harm_nobody(
    release: Release, cluster: Cluster
) -> None:
    async with watching(release, "bad Gateways", viewers=50) as crowd:
        for spec, names in BAD:
            patch = json.dumps({"spec": spec})
            with pytest.raises(CommandFailed) as refused:
                await cluster.kubectl(
                    "patch", "gateways.tidegate.dev", NAME, "--type=merge", "--patch", patch
                )
            assert names in str(refused.value)
        await _a_gateway_of_somebody_else(cluster)
        await release.healthy()
        await crowd.recover()
        assert crowd.left() == 0


async def _a_gateway_of_somebody_else(cluster: Cluster) -> None:
    """Aimed at another Deployment of the namespace: nobody scales it, and the operator says so."""
    stray = {
        "apiVersion": "tidegate.dev/v1alpha1",
        "kind": "Gateway",
        "metadata": {"name": "stray"},
        "spec": {
            "target": {"name": f"{NAME}-operator"},
            "replicas": 0,
            "scaling": {"mode": "none"},
        },
    }
    await cluster.kubectl("apply", "--filename", "-", stdin=json.dumps(stray))
    selector = "app.kubernetes.io/component=operator"

    async def told() -> bool:
        log = await cluster.kubectl("logs", "--selector", selector, "--tail=-1")
        said = "gateway not served by this operator"
        return any(said in one and "stray" in one for one in log.splitlines())

    await until(told, "a line that says whose it is not")
    deployment = await cluster.get("deployment", f"{NAME}-operator")
    assert deployment["spec"]["replicas"] == 2
    assert not (await cluster.get("gateways.tidegate.dev", "stray")).get("status", {}).get("mode")
    await cluster.kubectl("delete", "gateways.tidegate.dev", "stray")


# --- Redis


async def test_a_new_password_for_redis(release: Release, cluster: Cluster) -> None:
    """Both hold for a while: add the new one, roll the pods, take the old one away."""
    old, new = await release.password(), "the-new-password-of-redis"
    admin = release.redis(old)
    try:
        await admin.execute_command("ACL", "SETUSER", "default", f">{new}")
        encoded = base64.b64encode(new.encode()).decode()
        patch = json.dumps({"data": {"redis-password": encoded}})
        await cluster.kubectl("patch", "secret", f"{NAME}-valkey", "--patch", patch)
        async with watching(release, "new Redis password", viewers=100) as crowd:
            for deployment in ("gateway", "operator"):
                await cluster.kubectl("rollout", "restart", f"deployment/{NAME}-{deployment}")
            await release.settled(2)
            await cluster.kubectl("rollout", "status", f"deployment/{NAME}-operator")
            await admin.execute_command("ACL", "SETUSER", "default", f"<{old}")
            # Whoever still uses the old one is thrown out.
            await admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await asyncio.sleep(1)  # so that what comes next was written after it
            await crowd.recover()
        await release.healthy()
    finally:
        await admin.aclose()
    # An upgrade keeps a password that the chart did not make.
    await release.upgrade({})
    assert await release.password() == new


# --- a rollout that cannot end


async def test_an_image_that_cannot_be_pulled(release: Release, cluster: Cluster) -> None:
    async with watching(release, "an image that cannot be pulled", viewers=50) as crowd:
        # Nothing listens there, so the pull is refused at once, and nothing leaves the node.
        container = {"name": "gateway", "image": "localhost:1/none:1"}
        spec = {
            "progressDeadlineSeconds": 10,
            "template": {"spec": {"containers": [container]}},
        }
        deployment = f"deployment/{NAME}-gateway"
        before = await _staying(cluster)
        began = time.monotonic()
        await cluster.kubectl("patch", deployment, "--patch", json.dumps({"spec": spec}))
        told: dict[str, Any] = {}

        async def is_told() -> bool:
            conditions = (await release.gateway())["status"]["conditions"]
            told.update({one["type"]: one for one in conditions})
            # Where the node is busy the deadline passes before it has tried to pull.
            return told["RolloutHealthy"]["reason"] in ("ErrImagePull", "ImagePullBackOff")

        await until(is_told, "a rollout that is told to be stuck")
        crowd.note("seconds until it is told", round(time.monotonic() - began, 1))
        assert told["RolloutHealthy"]["status"] == "False"
        assert "ProgressDeadlineExceeded" in told["RolloutHealthy"]["message"]
        assert (told["Ready"]["status"], told["Ready"]["reason"]) == ("False", "RolloutStuck")
        await cluster.kubectl("rollout", "undo", deployment)
        await release.settled(2)
        await release.healthy()
        await crowd.recover()
        assert before <= await _staying(cluster)


async def _staying(cluster: Cluster) -> set[str]:
    """The gateway pods that are ready, by uid."""
    return {pod["metadata"]["uid"] for pod in await cluster.pods("gateway") if is_ready(pod)}


# --- what the operator may do


async def test_the_role_allows_what_is_used_and_nothing_else(cluster: Cluster) -> None:
    """After all other cases: what was never asked for in them is not needed."""
    user = f"system:serviceaccount:{cluster.namespace}:{NAME}-operator"
    role = await cluster.get("role", f"{NAME}-operator")
    used: set[tuple[str, str, str]] = set()
    refused: set[tuple[str, str, str]] = set()
    names: set[tuple[str, str, str, str]] = set()
    for event in cluster.audit(since=role["metadata"]["creationTimestamp"]):
        if event["user"]["username"] != user or "objectRef" not in event:
            continue
        ref = event["objectRef"]
        what = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
        call = (ref.get("apiGroup", ""), what, event["verb"])
        code = event["responseStatus"]["code"]
        (refused if code == 403 else used).add(call)
        if code != 403:
            names.add((*call, ref.get("name", "")))
        if code == 201 and event["verb"] == "patch":
            # An apply that creates is asked for both, by name.
            used.add((*call[:2], "create"))
            names.add((*call[:2], "create", ref["name"]))
    granted = {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    named = {
        (group, resource, verb, name)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", ())
    }
    told = [f"{verb} {group or 'core'}/{resource}" for group, resource, verb in sorted(used)]
    report.write({"name": "permissions of the operator", "granted": len(granted), "used": told})
    # What it tries and can do without: zones, and whether KEDA is there. What was refused and
    # then allowed came before its rule was known everywhere.
    optional = {(one.group, one.resource, v) for one in PERMISSIONS if one.when for v in one.verbs}
    assert refused - used - optional == set(), "used and not granted"
    assert granted - used == set(), "granted and never used"
    assert named - names == set(), "granted for a name and never used for it"
    assert used - granted == set(), "used, and granted by somebody else"


# --- the end


async def test_uninstall_leaves_nothing_but_the_definition(
    release: Release, cluster: Cluster
) -> None:
    await release.close_ports()
    await cluster.helm("uninstall", NAME, "--wait", "--timeout", PATIENCE)
    await volume.remove(cluster)
    kinds = (
        await cluster.kubectl("api-resources", "--verbs=list,delete", "--namespaced", "-o", "name")
    ).split()
    # Events and metrics are what happened; the others belong to the namespace.
    left_out = ("events", "pods.metrics.k8s.io", "rolebindings.authorization")
    asked = ",".join(kind for kind in kinds if not kind.startswith(left_out))

    async def left() -> list[str]:
        found = (
            await cluster.kubectl("get", asked, "--output", "name", "--ignore-not-found")
        ).split()
        own = ("serviceaccount/default", "configmap/kube-root-ca.crt")
        return [one for one in found if one not in own]

    async def nothing_left() -> bool:
        return not await left()

    try:
        await until(nothing_left, "an empty namespace")
    except AssertionError:
        pytest.fail(f"left behind: {await left()}")
    assert "gateways.tidegate.dev" in await cluster.kubectl("get", "crd", "--output", "name")
    await cluster.kubectl("delete", "namespace", cluster.namespace)
