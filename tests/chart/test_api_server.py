"""Every manifest of every case, taken by a real API server (`--dry-run=server`), without a warning.

Also those of other projects (Prometheus operator, Gateway API), by the definitions of these.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.chart.api import Api
from tests.chart.render import CASES, Manifest, only, rendered
from tests.harness.waiting import until
from tests.servers.kubernetes import Kubernetes
from tidegate_operator.kube.objects import DELETION_COST as COST
from tidegate_operator.kube.objects import OWN_COST

pytestmark = [
    pytest.mark.real("helm", "kubectl", "kube-apiserver"),
    pytest.mark.asyncio(loop_scope="module"),
    # As for the fixture `kubernetes`, whose server this is: one worker, and patience at the start.
    pytest.mark.xdist_group("kubernetes"),
    pytest.mark.timeout(400),
]
FOREIGN = ("monitoring.coreos.com", "gateway.networking.k8s.io")
FOREIGN_CASES = (
    *(
        "monitoring",
        "monitoring by pod",
        "monitoring by service",
        "gateway api",
        "gateway api without time-outs",
        "production",
    ),
    *("another namespace", "both address families", "gateway api with a prefix"),
)


def is_foreign(manifest: Manifest) -> bool:
    return str(manifest["apiVersion"]).startswith(FOREIGN)


@pytest.mark.parametrize("case", CASES)
async def test_the_api_server_takes_it(api: Api, case: str) -> None:
    for one in rendered(case):
        if not is_foreign(one):
            await api.takes(one)


@pytest.mark.real("crds")
@pytest.mark.parametrize("case", FOREIGN_CASES)
async def test_the_api_server_takes_objects_of_other_projects(api: Api, case: str) -> None:
    foreign = [one for one in rendered(case) if is_foreign(one)]
    assert foreign
    for one in foreign:
        await api.takes(one)


@pytest.mark.real("crds")
async def test_a_wrong_field_of_another_project_would_be_noticed(api: Api) -> None:
    (route,) = json.loads(json.dumps([o for o in rendered("gateway api") if is_foreign(o)]))
    route["spec"]["rules"][0]["timeouts"]["request"] = "an hour"
    status, told = await api.apply(route, dry_run=True)
    assert status == 422
    assert "spec.rules[0].timeouts.request" in told


async def test_the_operators_account_cannot_scale_a_foreign_deployment(api: Api) -> None:
    """The Role as it is rendered, asked of the API server's own authorizer."""
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        status, told = await api.apply(only("defaults", kind, "tidegate-operator"), dry_run=False)
        assert status in (200, 201), told
    scale = {"group": "apps", "resource": "deployments", "subresource": "scale", "verb": "patch"}
    make = {"group": "autoscaling", "resource": "horizontalpodautoscalers", "verb": "create"}

    async def allowed() -> bool:
        return await api.allows("tidegate-operator", {**scale, "name": "tidegate-gateway"})

    await until(allowed, "who authorizes learns of it a moment later")
    assert await api.allows("tidegate-operator", {**make, "name": "tidegate"})
    for refused in (
        {**scale, "name": "payments-api"},
        scale,
        {**scale, "verb": "update", "name": "tidegate-gateway"},
        {**scale, "subresource": "", "name": "tidegate-gateway"},
        {**scale, "subresource": "", "verb": "get", "name": "payments-api"},
        {**make, "name": "payments-api"},
        {**make, "verb": "delete", "name": "payments-api"},
        {"group": "", "resource": "secrets", "verb": "get", "name": "payments"},
        {"group": "", "resource": "secrets", "verb": "list"},
    ):
        assert not await api.allows("tidegate-operator", refused), refused


@pytest.mark.parametrize("guarded", [False, True], ids=["the Role alone", "with the policy"])
async def test_the_operators_account_changes_nothing_of_pods_but_their_deletion_cost(
    server: Kubernetes, api: Api, guarded: bool
) -> None:
    """No Role can say that: with it alone, the image of any pod of the namespace may be changed."""
    for kind in ("ServiceAccount", "Role", "RoleBinding"):
        status, told = await api.apply(only("defaults", kind, "tidegate-operator"), dry_run=False)
        assert status in (200, 201), told
    pods = {"group": "", "resource": "pods", "verb": "patch"}

    async def allowed() -> bool:
        return await api.allows("tidegate-operator", pods)

    await until(allowed, "who authorizes learns of it a moment later")
    template = gateway_deployment()["spec"]["template"]
    names = {"gateway": f"gateway-{guarded}".lower(), "foreign": f"foreign-{guarded}".lower()}
    for component, name in names.items():
        pod = {"apiVersion": "v1", "kind": "Pod", **json.loads(json.dumps(template))}
        pod["metadata"] |= {"name": name, "annotations": {"a": "b"}, "finalizers": ["test/one"]}
        pod["metadata"]["labels"]["app.kubernetes.io/component"] = component
        pod["spec"] |= {"serviceAccountName": "default"}
        status, told = await api.apply(pod, dry_run=False)
        assert status in (200, 201), told
    kinds = ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy")
    account = "system:serviceaccount:some:tidegate-operator"
    harmful: dict[str, Any] = {
        "image": {"spec": {"containers": [{"name": "gateway", "image": "mallory/miner"}]}},
        "label": {"metadata": {"labels": {"app.kubernetes.io/component": "x"}}},
        "another annotation": {"metadata": {"annotations": {"a": "c"}}},
        "a new annotation": {"metadata": {"annotations": {"sidecar.example/inject": "true"}}},
        "no annotations": {"metadata": {"annotations": None}},
        "finalizers": {"metadata": {"finalizers": None}},
        "owner": {
            "metadata": {
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "y"}]
            }
        },
        "deadline": {"spec": {"activeDeadlineSeconds": 1}},
        "cost and image": {
            "metadata": {"annotations": {COST: "-1"}},
            "spec": {"containers": [{"name": "gateway", "image": "mallory/miner"}]},
        },
    }
    cost: dict[str, Any] = {"metadata": {"annotations": {COST: "-3", OWN_COST: "-3"}}}

    async with server.client() as client:

        async def patch(
            pod: str, body: Any, *, who: str | None = account, dry_run: bool = True
        ) -> tuple[int, str]:
            answer = await client.patch(
                f"/api/v1/namespaces/some/pods/{names[pod]}",
                params={"dryRun": "All"} if dry_run else {},
                content=json.dumps(body),
                headers={
                    "Content-Type": "application/strategic-merge-patch+json",
                    **({} if who is None else {"Impersonate-User": who}),
                },
            )
            return answer.status_code, answer.text

        try:
            if guarded:
                for kind in reversed(kinds):
                    (one,) = (o for o in rendered("admission policy") if o["kind"] == kind)
                    status, told = await api.apply(one, dry_run=False)
                    assert status in (200, 201), told

                async def enforced() -> bool:
                    return (await patch("foreign", cost))[0] == 403

                await until(enforced, "the policy is enforced a moment later")
            else:
                assert (await patch("foreign", harmful["image"]))[0] == 200
                assert (await patch("foreign", cost))[0] == 200
            for number in ("-3", "-2", None):
                cost["metadata"]["annotations"] |= {COST: number}
                status, told = await patch("gateway", cost, dry_run=False)
                assert status == 200, told
            for name, body in harmful.items():
                status, told = await patch("gateway", body)
                assert status == (403 if guarded else 200), f"{name}: {told}"
                if guarded:
                    assert "the operator may change the deletion cost of pods" in told
                    # Others may as before.
                    status, told = await patch("gateway", body, who=None)
                    assert status == 200, f"{name}: {told}"
        finally:
            for kind in kinds if guarded else ():
                plural = re.sub("y$", "ie", kind.lower()) + "s"
                path = f"/apis/admissionregistration.k8s.io/v1/{plural}/some.tidegate-operator"
                (await client.delete(path)).raise_for_status()


def gateway_deployment() -> Manifest:
    """To be changed."""
    found: Manifest = json.loads(json.dumps(only("defaults", "Deployment", "tidegate-gateway")))
    return found


async def test_a_field_that_nobody_knows_would_be_noticed(api: Api) -> None:
    deployment = gateway_deployment()
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbes"] = {}
    status, told = await api.apply(deployment, dry_run=True)
    assert status >= 400
    assert "livenessProbes" in told


async def test_a_pod_that_asks_for_more_would_be_noticed(api: Api) -> None:
    """The check above can fail: the namespace does warn of what is not restricted."""
    deployment = gateway_deployment()
    del deployment["spec"]["template"]["spec"]["securityContext"]["seccompProfile"]
    _, told = await api.apply(deployment, dry_run=True)
    assert told.startswith("warning")
    assert "would violate PodSecurity" in told
