"""What the operator's Role must allow: a line for each resource, with the verbs and the reason.

The chart's Role, the page and the tests are checked by this table: a permission that is granted and
never used fails there, and so does one that is used and not granted.
"""

from __future__ import annotations

from typing import NamedTuple

from tidegate_operator.model.gateway import GROUP


class Permission(NamedTuple):
    """A line of the Role: API group, resource, verbs, and why.

    Attributes:
        only: on which objects, by `resourceNames`; empty: all of the namespace.
        when: the feature that needs it; empty: always.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    only: str = ""
    when: str = ""


#: What `only` says; the chart knows the names.
LEASE, DEPLOYMENT, SECRETS, OWN = "the Lease", "the Deployment", "its Secrets", "the Gateway's name"

PERMISSIONS: tuple[Permission, ...] = (
    Permission(GROUP, "gateways", ("list", "watch"), "reading the Gateways"),
    Permission(GROUP, "gateways/status", ("patch",), "status and conditions", only=OWN),
    Permission("coordination.k8s.io", "leases", ("create",), "leader election"),
    Permission("coordination.k8s.io", "leases", ("get", "patch"), "leader election", only=LEASE),
    Permission(
        "apps", "deployments", ("get",), "number of replicas, state of a rollout", only=DEPLOYMENT
    ),
    Permission(
        "apps",
        "deployments/scale",
        ("patch",),
        "scaling, in `internal` and `none`",
        only=DEPLOYMENT,
    ),
    Permission("", "pods", ("list", "patch"), "readiness; the deletion cost before a scale-down"),
    Permission("", "secrets", ("get",), "credentials for Redis", only=SECRETS),
    Permission("events.k8s.io", "events", ("create",), "events about scaling and failures"),
    Permission(
        "autoscaling",
        "horizontalpodautoscalers",
        ("list",),
        "in every mode, detecting other autoscalers",
    ),
    Permission(
        "autoscaling",
        "horizontalpodautoscalers",
        ("create", "patch", "delete"),
        "mode `hpa`",
        only=OWN,
    ),
    Permission(
        "keda.sh",
        "scaledobjects",
        ("list",),
        "in every mode, detecting other autoscalers",
        when="keda",
    ),
    Permission(
        "keda.sh",
        "scaledobjects",
        ("create", "patch", "delete"),
        "mode `keda`",
        only=OWN,
        when="keda",
    ),
    Permission("", "nodes", ("get",), "zones before Kubernetes 1.35; a ClusterRole", when="zones"),
)
