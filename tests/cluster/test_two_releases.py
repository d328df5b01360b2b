"""Two releases in one namespace and one of the same name in another: each operator serves its own.

Three operators, three Gateways, three Valkeys, and viewers on all of them. The audit log says what
each operator has written, and the conditions and the warnings whether they quarrel.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from tests.cluster import report
from tests.cluster.crowd import Crowd, watching
from tests.cluster.kube import Cluster, CommandFailed
from tests.cluster.patience import PATIENCE, until
from tests.cluster.release import NAME, Release, images, merge

pytestmark = [pytest.mark.all_cases]

SHARED, OTHER = "tidegate-test-two", "tidegate-test-other"
#: The name of one begins with that of the other.
RELEASES = ((SHARED, NAME), (SHARED, f"{NAME}-two"), (OTHER, NAME))
VALUES: dict[str, Any] = {
    "auth": {"mode": "none"},
    "settings": {"drain": {"delay_s": 0, "window_s": 2}, "server": {"allowed_hosts": ["*"]}},
    "gateway": {"replicas": 2, "minReadySeconds": 0, "preStopSeconds": 1},
    "operator": {"intervalSeconds": 1, "rbac": {"admissionPolicy": True}},
    "scaling": {"mode": "none"},
    # Who keeps the connection was not moved by anything.
    "rebalance": {"enabled": False},
}
VIEWERS = 30
#: Two operators that both served a Gateway changed its conditions with each look, twice a second.
QUIET_S = 30.0


async def test_each_operator_serves_the_gateway_of_its_release() -> None:
    releases = [Release(Cluster(namespace, instance=name)) for namespace, name in RELEASES]
    clusters = [Cluster(SHARED), Cluster(OTHER)]
    for cluster in clusters:
        await cluster.kubectl("create", "namespace", cluster.namespace)
    try:
        await _installed(releases)
        await _side_by_side(releases)
    finally:
        for cluster in clusters:
            await cluster.kubectl("delete", "namespace", cluster.namespace, "--wait=false")


async def _installed(releases: list[Release]) -> None:
    began = time.monotonic()
    values = merge(images(), VALUES)
    try:
        await asyncio.gather(*(release.install(values) for release in releases))
        await asyncio.gather(*(release.settled(2) for release in releases))
        await asyncio.gather(*(release.healthy() for release in releases))
    except (CommandFailed, TimeoutError) as error:
        pytest.fail(f"{error}\n{[await release.cluster.events() for release in releases]}")
    took = round(time.monotonic() - began, 1)
    report.write({"name": "three releases, installed at once", "seconds_to_ready": took})


async def _side_by_side(releases: list[Release]) -> None:
    first, second, other = releases
    since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    crowds: list[Crowd] = []
    async with AsyncExitStack() as stack:
        for release in releases:
            name = f"three releases: {release.name} in {release.cluster.namespace}"
            entered = watching(release, name, viewers=VIEWERS)
            crowds.append(await stack.enter_async_context(entered))
        await _nothing_flaps(releases, QUIET_S)
        # What is asked of one, its own operator does, and nobody else.
        gateway = f"gateways.tidegate.dev/{second.name}"
        await second.cluster.kubectl("scale", gateway, "--replicas=3")
        await second.settled(3)
        await _leader_killed(second)
        await second.cluster.kubectl("scale", gateway, "--replicas=2")
        await second.settled(2)
        for release in (first, other):
            assert await release.cluster.ready("gateway", 2, leaving=0)
        await asyncio.gather(*(crowd.recover() for crowd in crowds))
        for crowd in (crowds[0], crowds[2]):
            assert crowd.left() == 0
    used = _written(first.cluster, since)
    report.write({"name": "three releases, written by their operators", "objects": used})
    for release in releases:
        _only_its_own(release, used)
    await _one_goes(first, second)


async def _conditions(releases: list[Release]) -> dict[tuple[str, str, str], Any]:
    """Status and time of each condition of each Gateway."""
    found = {}
    for release in releases:
        gateway = await release.gateway()
        for one in gateway["status"]["conditions"]:
            key = (release.cluster.namespace, release.name, one["type"])
            found[key] = (one["status"], one["reason"], one["lastTransitionTime"])
    return found


async def _nothing_flaps(releases: list[Release], seconds: float) -> None:
    before = await _conditions(releases)
    assert {key[:2] for key in before} == set(RELEASES)
    end = time.monotonic() + seconds
    looks = 0
    while time.monotonic() < end:
        assert await _conditions(releases) == before
        looks += 1
        await asyncio.sleep(0.5)  # to look again, not to wait for anything
    warnings = [one for r in (releases[0], releases[2]) for one in await r.cluster.events()]
    about = [text for text in warnings if text.startswith(NAME)]
    report.write({"name": "three releases, conditions", "looks": looks, "warnings": len(about)})
    gateways = [text for text in about if text.split(":")[0] in {name for _, name in RELEASES}]
    assert gateways == []


async def _leader_killed(release: Release) -> None:
    """By deletion of its pod: the other replica of the same release takes over."""
    leader = await release.leader()
    await release.cluster.kubectl("delete", "pod", leader, "--force", "--grace-period=0")

    async def taken_over() -> bool:
        return await release.leader() not in ("", leader)

    await until(taken_over, "a new leader of this release")
    await until(partial(release.cluster.ready, "operator", 2), "its operators")


def _written(cluster: Cluster, since: str) -> dict[str, list[str]]:
    """What each operator has written since, by the name of its account."""
    used: dict[str, set[str]] = {}
    for event in cluster.audit(since=since):
        account = event["user"]["username"].removeprefix("system:serviceaccount:")
        ref = event.get("objectRef", {})
        if event["verb"] in ("get", "list", "watch") or not account.endswith("-operator"):
            continue
        if event["responseStatus"]["code"] < 300:
            # A pod's name ends with what its ReplicaSet made up.
            name = ref.get("name", "")
            name = name.rsplit("-", 2)[0] if ref["resource"] == "pods" else name
            what = f"{ref.get('namespace', '')}/{ref['resource']}/{name}"
            used.setdefault(account, set()).add(what)
    return {account: sorted(names) for account, names in used.items()}


def _only_its_own(release: Release, used: dict[str, list[str]]) -> None:
    namespace, name = release.cluster.namespace, release.name
    own = {
        f"{namespace}/gateways/{name}",
        f"{namespace}/deployments/{name}-gateway",
        f"{namespace}/leases/{name}-operator",
        f"{namespace}/pods/{name}-gateway",
    }
    found = set(used[f"{namespace}:{name}-operator"])
    # An Event is created without a name, or with one made for it.
    assert {one for one in found if "/events/" not in one} <= own
    assert f"{namespace}/gateways/{name}" in found


async def _one_goes(stays: Release, goes: Release) -> None:
    """The end of one release is not the other's matter."""
    async with watching(stays, "three releases: one of two goes", viewers=VIEWERS) as crowd:
        await goes.close_ports()
        await goes.cluster.helm("uninstall", goes.name, "--wait", "--timeout", PATIENCE)
        await crowd.recover()
        assert crowd.left() == 0
        assert await stays.cluster.ready("gateway", 2, leaving=0)
        await stays.healthy()
    left = await goes.cluster.get("pods", "--selector", f"app.kubernetes.io/instance={goes.name}")
    assert left["items"] == []
