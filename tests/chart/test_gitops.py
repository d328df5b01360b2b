"""A render without a cluster, as Argo CD and pipelines do it: no Secret of its own, and the same
each time.
"""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.chart.render import CASES, CHART, helm, read, rendered, template
from tests.chart.test_chart import EACH_HELM

pytestmark = pytest.mark.real("helm")
REFUSED = "This render has no access to a cluster"


def render(values: dict[str, Any], program: str = "helm") -> tuple[int, str, str]:
    """Status, manifests and errors; nothing is added to the values."""
    words = ("template", "tidegate", str(CHART), "--namespace", "some", "--include-crds")
    done = helm(*words, values=values, program_name=program)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("program", EACH_HELM)
@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "not set: auth.existingSecret, valkey.existingSecret."),
        ({"auth": {"existingSecret": "a"}}, "not set: valkey.existingSecret."),
        (
            {"auth": {"mode": "none"}, "redis": {"url": "redis://a"}, "publish": {"enabled": True}},
            "not set: publish.existingSecret.",
        ),
    ],
)
def test_a_new_password_at_each_sync(values: dict[str, Any], named: str, program: str) -> None:
    """The next pod that started got WRONGPASS."""
    status, out, error = render(values, program)
    assert status != 0
    assert out == ""
    assert REFUSED in error
    assert named in error


def test_secrets_that_are_never_generated() -> None:
    status, _, error = render({"generateSecrets": "never"})
    assert status != 0
    assert "create the Secrets and set auth.existingSecret, valkey.existingSecret" in error


def test_a_linter_is_not_refused() -> None:
    """`helm lint` renders without a cluster, and looks for mistakes in the chart."""
    done = helm("lint", "--strict", str(CHART), values={})
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("program", EACH_HELM)
@pytest.mark.parametrize("more", [{}, {"monitoring": CASES["monitoring"]["monitoring"]}])
def test_each_render_is_the_same(more: dict[str, Any], program: str) -> None:
    """Byte for byte: a difference would be synced, and would replace pods, for ever."""
    values = {**CASES["gitops"], **more}
    first, second = render(values, program), render(values, program)
    assert first == second
    assert first[0] == 0
    assert REFUSED not in first[2]


def test_what_is_rendered_for_gitops() -> None:
    kinds = {one["kind"] for one in rendered("gitops")}
    assert "Secret" not in kinds
    assert {"Deployment", "StatefulSet", "Gateway"} <= kinds
    for one in rendered("gitops"):
        assert "helm.sh/hook" not in one["metadata"].get("annotations", {})
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "tidegate-gateway":
            assert "replicas" not in one["spec"]


def test_nothing_but_generated_secrets_differs_between_renders() -> None:
    """With `generateSecrets: always`, where a difference is what was asked for."""

    def all_else(text: str) -> list[str]:
        manifests = read(text)
        for one in manifests:
            if one["kind"] == "Secret":
                one["data"] = dict.fromkeys(one["data"])
            if "template" in one.get("spec", {}):
                annotations = one["spec"]["template"]["metadata"].get("annotations", {})
                annotations.pop("checksum/secrets", None)
        return [yaml.safe_dump(one) for one in manifests]

    first, second = (template(CASES["made secrets"]).stdout for _ in range(2))
    assert first != second
    assert all_else(first) == all_else(second)
