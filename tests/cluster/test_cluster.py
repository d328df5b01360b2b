"""The chart on a real cluster, hurt while viewers watch; the cases go on from one another.

Viewers and publishers come from outside through NodePorts; what they must get is judged as in
`tests/faults`. Each case writes its figures (`report`).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.cluster import report
from tests.cluster.crowd import watching
from tests.cluster.kube import Cluster, CommandFailed, is_ready, restarts, until
from tests.cluster.release import NAME, READY_S, Release, images

#: From here on viewers need no token, and a pod's end is short, so that a run is.
UNDER_TEST: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {"drain": {"delay_s": 1, "window_s": 4}},
    "gateway": {"minReadySeconds": 1, "preStopSeconds": 2},
    "operator": {"intervalSeconds": 1},
    "scaling": {"mode": "none"},
}
TAKEOVER_S = 15.0


async def scale(release: Release, pods: int) -> float:
    """`kubectl scale gateway`, and the seconds until so many pods are ready and the others gone."""
    began = time.monotonic()
    await release.cluster.kubectl("scale", f"gateways.tidegate.dev/{NAME}", f"--replicas={pods}")
    await release.settled(pods)
    return time.monotonic() - began


async def healthy(release: Release) -> bool:
    status = (await release.gateway()).get("status", {})
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ())
    )


async def test_install_brings_up_everything(release: Release, cluster: Cluster) -> None:
    try:
        await cluster.kubectl("create", "namespace", cluster.namespace)
        level = "pod-security.kubernetes.io/enforce=restricted"
        await cluster.kubectl("label", "namespace", cluster.namespace, level)
        began = time.monotonic()
        notes = await release.install(images())
        # helm waits for one pod; that there are two is the operator's doing.
        await release.settled(2)
        took = time.monotonic() - began
        await until(lambda: healthy(release), 30, "the condition Ready of the Gateway")
    except (CommandFailed, TimeoutError) as error:
        pytest.exit(f"nothing to go on with: {error}\n{await cluster.events()}", 1)
    assert "The next three commands" in notes
    for component, count in (("gateway", 2), ("operator", 2), ("valkey", 1)):
        assert await cluster.ready(component, count), component
        assert restarts(await cluster.pods(component)) == 0, component
    report.write({"name": "install", "seconds_to_ready": round(took, 1)})


async def test_helm_test_publishes_and_watches_with_a_token(cluster: Cluster) -> None:
    shown = await cluster.helm("test", NAME, "--logs")
    assert "5 updates arrived, each once and in order" in shown


async def test_the_commands_of_the_notes_work(cluster: Cluster) -> None:
    pod = f"deploy/{NAME}-gateway"
    make_token = (
        'import jwt, os, time; print(jwt.encode({"sub": "me", "operations": ["*"], '
        '"exp": int(time.time()) + 3600}, os.environ["TIDEGATE_AUTH__SECRET"]))'
    )
    notes = await cluster.helm("get", "notes", NAME)
    assert make_token in notes
    token = (await cluster.kubectl("exec", pod, "--", "python", "-c", make_token)).strip()
    for data in ('{"progress": 0.5}', '{"status": "completed"}'):
        await cluster.kubectl("exec", pod, "--", "tidegate", "publish", "hello", data)
    watch = (
        "import httpx, sys; print(httpx.get(f'http://tidegate/sse/operations/hello?history=all', "
        "headers={'Authorization': f'Bearer {sys.argv[1]}'}).text)"
    )
    shown = await cluster.kubectl("exec", pod, "--", "python", "-c", watch, token)
    assert '"progress":0.5' in shown
    assert '"status":"completed"' in shown


async def test_an_upgrade_of_the_settings(release: Release) -> None:
    """Not judged: the viewers of the next cases need what it changes."""
    await release.upgrade(UNDER_TEST)
    await scale(release, 2)


async def test_scaling_by_hand(release: Release) -> None:
    async with watching(release, "scale 2 to 5 to 2 by hand", viewers=100) as crowd:
        crowd.note("seconds to 5", round(await scale(release, 5), 1))
        await crowd.recover(30)
        crowd.note("seconds to 2", round(await scale(release, 2), 1))
        await crowd.recover(30)


async def test_a_killed_gateway_pod(release: Release, cluster: Cluster) -> None:
    async with watching(release, "kill -9 of a gateway pod", viewers=100) as crowd:
        pods = await cluster.pods("gateway")
        crowd.blow()
        await cluster.kill_container(pods[0])
        await until(lambda: _some_cut(crowd), 10, "viewers that were cut")
        await release.settled(2)
        await crowd.recover(30)


async def _some_cut(crowd: Any) -> bool:
    return bool(crowd.left())


async def test_a_rolling_upgrade(release: Release, cluster: Cluster) -> None:
    before = {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}
    async with watching(release, "rolling upgrade of the chart", viewers=100) as crowd:
        began = time.monotonic()
        await release.upgrade({"settings": {"viewer": {"history_entries": 50}}})
        await release.settled(2)
        crowd.note("seconds", round(time.monotonic() - began, 1))
        await crowd.recover(30)
    after = {pod["metadata"]["name"] for pod in await cluster.pods("gateway")}
    assert not before & after


async def test_a_killed_operator_leader(release: Release, cluster: Cluster) -> None:
    async with watching(release, "kill -9 of the operator's leader", viewers=50) as crowd:
        leader = await release.leader()
        pods = {pod["metadata"]["name"]: pod for pod in await cluster.pods("operator")}
        killed = time.monotonic()
        await cluster.kill_container(pods[leader])
        await cluster.kubectl("delete", "pod", leader, "--force", "--grace-period=0")

        async def taken_over() -> bool:
            return await release.leader() not in ("", leader)

        await until(taken_over, 60, "a new leader")
        took = time.monotonic() - killed
        crowd.note("take-over seconds", round(took, 1))
        crowd.note("seconds to 3 under the new one", round(await scale(release, 3), 1))
        await crowd.recover(30)
    assert took < TAKEOVER_S
    await scale(release, 2)


async def test_a_killed_valkey(release: Release, cluster: Cluster) -> None:
    before = await cluster.pods("gateway")
    async with watching(release, "kill -9 of Valkey, with its log on disk", viewers=100) as crowd:
        (valkey,) = await cluster.pods("valkey")
        began = time.monotonic()
        await cluster.kill_container(valkey)
        await asyncio.sleep(1)  # so that what comes next was written after it
        await crowd.recover(60)
        crowd.note("seconds until everybody has news", round(time.monotonic() - began, 1))
        # Sockets were kept: the gateway told its viewers, and nobody had to come back.
        crowd.note("connections cut", crowd.left())
        assert crowd.left() == 0
    after = await cluster.pods("gateway")
    assert [p["metadata"]["name"] for p in before] == [p["metadata"]["name"] for p in after]
    assert all(is_ready(pod) for pod in after)
    assert restarts(after) == restarts(before)


async def test_a_node_that_is_drained(release: Release, cluster: Cluster) -> None:
    """Evictions are what a drain does, and the one node cannot be emptied for good."""
    async with watching(release, "eviction of all gateway pods", viewers=100) as crowd:
        pods = [pod["metadata"]["name"] for pod in await cluster.pods("gateway")]
        refused = 0
        least = len(pods)
        waiting = list(pods)
        began = time.monotonic()
        while waiting:
            try:
                await evict(cluster, waiting[0])
                waiting.pop(0)
            except CommandFailed as error:
                if "disruption budget" not in str(error):
                    raise
                refused += 1
                await asyncio.sleep(0.5)
            ready = sum(is_ready(pod) for pod in await cluster.pods("gateway"))
            least = min(least, ready)
            assert time.monotonic() - began < READY_S
        await release.settled(len(pods))
        await crowd.recover(30)
        crowd.note("evictions refused by the budget", refused)
    assert refused, "the budget let all pods go at once"
    assert least >= 1


async def evict(cluster: Cluster, pod: str) -> None:
    """What `kubectl drain` asks for each pod."""
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{pod}/eviction"
    body = (
        '{"apiVersion": "policy/v1", "kind": "Eviction", '
        f'"metadata": {{"name": "{pod}", "namespace": "{cluster.namespace}"}}}}'
    )
    await cluster.kubectl("create", "--raw", path, "--filename", "-", stdin=body)
