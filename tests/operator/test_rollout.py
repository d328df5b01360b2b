"""A rollout that is stuck, from what Kubernetes says of a Deployment and its pods."""

from __future__ import annotations

from typing import Any

import pytest
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import Pod

from tests.operator.stage import Stage
from tests.operator.test_observe import deployment, pod
from tests.operator.test_operator_scaling import begin
from tests.operator.test_operator_status import LATER, NOW, facts, heads, look
from tidegate_operator.kube.answers import deployment_of, pod_of
from tidegate_operator.kube.objects import StallReason
from tidegate_operator.loops.status import compose, flips
from tidegate_operator.observe.rollout import LATE, LATE_S, STUCK_S, Rollout, RolloutWatch

PULL = StallReason("ImagePullBackOff", 'Back-off pulling image "registry.example/none:1"')
CRASH = StallReason("CrashLoopBackOff", "back-off 10s; the last one ended with 137 (OOMKilled)")


def read_pod(**status: Any) -> StallReason | None:
    spec: dict[str, Any] = {"containers": []}
    return pod_of(
        Pod.from_dict({"metadata": {"name": "gw-1"}, "spec": spec, "status": status})
    ).trouble


def waiting(reason: Any, message: Any = None, **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": "x", "image": "", "imageID": "", "ready": False, "restartCount": 0} | {
        "state": state,
        **more,
    }


@pytest.mark.parametrize(
    ("status", "trouble"),
    [
        ({}, None),
        ({"containerStatuses": [waiting("ContainerCreating")]}, None),
        ({"containerStatuses": [waiting(PULL.reason, PULL.message)]}, PULL),
        (
            {
                "containerStatuses": [waiting("PodInitializing")],
                "initContainerStatuses": [waiting("ErrImagePull", "no\n such\timage")],
            },
            StallReason("ErrImagePull", "no such image"),
        ),
        (
            {
                "containerStatuses": [
                    waiting(
                        "CrashLoopBackOff",
                        "back-off 10s",
                        lastState={"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
                    )
                ]
            },
            CRASH,
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available",
                    }
                ]
            },
            StallReason("Unschedulable", "0/3 nodes are available"),
        ),
        # A runtime may say anything: the word must fit into a condition, and the text is bounded.
        (
            {"containerStatuses": [waiting("<script>" * 99, "x" * 100_000)]},
            StallReason("NotStarting", "x" * 300),
        ),
        ({"containerStatuses": [waiting("Ünknown", "y")]}, StallReason("NotStarting", "y")),
    ],
)
def test_what_keeps_a_pod_from_starting(
    status: dict[str, Any], trouble: StallReason | None
) -> None:
    assert read_pod(**status) == trouble


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("Progressing", "False", "ProgressDeadlineExceeded"),
        ("ReplicaFailure", "True", "FailedCreate"),
        ("Progressing", "True", None),
        ("Progressing", "Unknown", None),
        ("Available", "False", None),
    ],
)
def test_what_a_deployment_says_of_its_progress(kind: str, status: str, reason: str | None) -> None:
    said = {"type": kind, "status": status, "reason": reason or "Other", "message": "because"}
    body = {
        "metadata": {"name": "gw", "uid": "u", "resourceVersion": "1"},
        "spec": {"selector": {}, "template": {}},
        "status": {"conditions": [said]},
    }
    stalled = deployment_of(Deployment.from_dict(body)).stalled
    assert stalled == (None if reason is None else StallReason(reason, "because"))


def test_a_pod_is_stuck_after_a_while_without_a_break() -> None:
    watch, one, now = RolloutWatch(), deployment(), 5_000.0
    bad = {"gw-1": pod("gw-1"), "gw-2": pod("gw-2", ready=False, trouble=PULL)}
    assert not watch.look(one, bad, now).is_stuck
    assert not watch.look(one, bad, now + STUCK_S - 1).is_stuck
    assert watch.look(one, bad, now + STUCK_S).pods == (("gw-2", PULL),)
    # It came through, and the next trouble begins anew.
    good = {"gw-1": pod("gw-1"), "gw-2": pod("gw-2")}
    assert not watch.look(one, good, now + 100).is_stuck
    assert not watch.look(one, bad, now + 101).is_stuck
    # Another pod of this name is another one; one that is deleted counts no more.
    assert not watch.look(one, {"gw-2": pod("gw-2", uid="z", ready=False)}, now + 300).is_stuck
    gone = {"gw-2": pod("gw-2", ready=False, trouble=PULL, terminating=True)}
    assert not watch.look(one, gone, now + 900).is_stuck


def test_a_crash_loop_is_stuck_although_its_container_runs_now_and_then() -> None:
    watch = RolloutWatch()
    for second in range(0, 120, 5):
        trouble = CRASH if second % 10 else None
        state = {"gw-1": pod("gw-1", ready=False, trouble=trouble)}
        rollout = watch.look(deployment(), state, float(second))
        assert rollout.is_stuck == (second >= STUCK_S)


def test_a_pod_that_only_takes_its_time_is_not_stuck() -> None:
    watch = RolloutWatch()
    for second in (0.0, 500.0):
        assert not watch.look(deployment(), {"a": pod("a", ready=False)}, second).is_stuck


def test_a_pod_that_is_added_and_never_ready_is_told_although_nobody_complains() -> None:
    """Its Deployment has no deadline for it: that is for rollouts."""
    watch, states = RolloutWatch(), {"a": pod("a"), "b": pod("b", ready=False)}
    assert not watch.look(deployment(), states, 0.0).is_stuck
    assert watch.look(deployment(), states, LATE_S).pods == (("b", LATE),)
    # One that was ready once has lost Redis, or its node.
    lost = {"a": pod("a", ready=False), "b": pod("b")}
    for second in (LATE_S + 1, 3 * LATE_S):
        assert not watch.look(deployment(), lost, second).is_stuck


def test_the_progress_deadline_is_told_at_once() -> None:
    late = StallReason("ProgressDeadlineExceeded", 'ReplicaSet "gw-6d5" has timed out progressing.')
    assert RolloutWatch().look(deployment(stalled=late), {}, 0).is_stuck
    bad = {"gw-2": pod("gw-2", ready=False, trouble=PULL), "gw-3": pod("gw-3", ready=False)}
    assert RolloutWatch().look(deployment(stalled=late), bad, 0).pods == (("gw-2", PULL),)


@pytest.mark.parametrize(
    ("rollout", "head", "words"),
    [
        (Rollout(), ("True", "Complete"), "available"),
        (
            Rollout(is_complete=False, updated=1, wanted=4),
            ("True", "InProgress"),
            "1 of 4 pods are of the newest template",
        ),
        (
            Rollout(pods=(("gw-9", PULL), ("gw-a", CRASH)), is_complete=False),
            ("False", "ImagePullBackOff"),
            "pod gw-9 (and 1 more) does not start: ImagePullBackOff: Back-off pulling",
        ),
        (
            Rollout(stalled=StallReason("FailedCreate", "exceeded quota"), is_complete=False),
            ("False", "FailedCreate"),
            "FailedCreate: exceeded quota",
        ),
        (
            Rollout(
                stalled=StallReason("ProgressDeadlineExceeded", "timed out"),
                pods=(("gw-9", PULL),),
                is_complete=False,
            ),
            ("False", "ImagePullBackOff"),
            "; ProgressDeadlineExceeded: timed out",
        ),
    ],
)
def test_a_stuck_rollout_is_told_with_the_reason_of_its_pods(
    rollout: Rollout, head: tuple[str, str], words: str
) -> None:
    """An image that could not be pulled left HEALTHY at True for as long as it lasted."""
    first = compose({}, facts(), NOW)
    made = compose(first, facts(snapshot=look(rollout=rollout)), LATER)
    assert heads(made)["RolloutHealthy"] == head
    by_type = {one["type"]: one for one in made["conditions"]}
    assert words in by_type["RolloutHealthy"]["message"]
    if not rollout.is_stuck:
        assert heads(made)["Ready"] == ("True", "Serving")
        assert flips(first, made) == []
        return
    assert heads(made)["Ready"] == ("False", "RolloutStuck")
    assert by_type["Ready"]["message"].startswith("1 of 2 pods are ready; ")
    assert words in by_type["Ready"]["message"]
    # One event, with the reason of the pods.
    assert [one["reason"] for one in flips(first, made)] == [head[1]]


async def test_a_progress_deadline_on_a_real_api_server(stage: Stage) -> None:
    await begin(stage, 10, 10)
    await stage.condition("Ready", "True", "Serving")
    await stage.condition("RolloutHealthy", "True", "Complete")
    late = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": 'ReplicaSet "tidegate-7c9" has timed out progressing.',
    }
    path = f"{stage.deployments}/tidegate/status"
    await stage.send("PATCH", path, {"status": {"conditions": [late]}})
    told = await stage.condition("RolloutHealthy", "False", "ProgressDeadlineExceeded")
    assert "has timed out progressing" in told["message"]
    await stage.condition("Ready", "False", "RolloutStuck")
    # What the alert TidegateRolloutStuck looks at.
    [operator] = stage.operators
    exposed = (await operator.get("/metrics")).text
    stuck = 'tidegate_operator_condition{condition="RolloutHealthy",gateway="main"} 0.0'
    assert stuck in exposed.splitlines()
    await stage.send("PATCH", path, {"status": {"conditions": None}})
    await stage.condition("RolloutHealthy", "True", "Complete")
    await stage.condition("Ready", "True", "Serving")
