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
        named: only on the objects with these names, which the chart knows.
        when: the feature that needs it; empty: always.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    why: str
    named: bool = False
    when: str = ""


PERMISSIONS: tuple[Permission, ...] = (
    Permission(GROUP, "gateways", ("list", "watch"), "what is to be done"),
    Permission(GROUP, "gateways/status", ("patch",), "what was done, and the conditions"),
    Permission("coordination.k8s.io", "leases", ("create",), "the election"),
    Permission(
        "coordination.k8s.io",
        "leases",
        ("get", "patch"),
        "the election; the Lease only",
        named=True,
    ),
    Permission("apps", "deployments", ("get",), "replicas and the state of a rollout"),
    Permission("apps", "deployments/scale", ("patch",), "scaling, in `internal` and `none`"),
    Permission("", "pods", ("list", "patch"), "which are ready; the deletion cost before they go"),
    Permission("", "secrets", ("get",), "the login of Redis; those Secrets only", named=True),
    Permission("events.k8s.io", "events", ("create",), "scale decisions and failures"),
    Permission(
        "autoscaling",
        "horizontalpodautoscalers",
        ("list", "create", "patch", "delete"),
        "mode `hpa`; in every mode, who else writes the scale",
    ),
    Permission(
        "keda.sh",
        "scaledobjects",
        ("list", "create", "patch", "delete"),
        "mode `keda`; in every mode, who else writes the scale",
        when="keda",
    ),
    Permission("", "nodes", ("get",), "zones before Kubernetes 1.35; a ClusterRole", when="zones"),
)
