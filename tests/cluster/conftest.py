"""The cluster that `run.sh` chose, and one release of the chart for all cases.

`make cluster-test` runs these tests, and `make test-rest` with the others; without a cluster pytest
passes them over by name. Files marked `all_cases` run only by `make cluster-test ARGS=--all`, by
hand and at night: each takes minutes, and some need programs that are built for them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cluster import report
from tests.cluster.kube import Cluster
from tests.cluster.release import Release

HERE = Path(__file__).parent
NAMESPACE = "tidegate-test"
#: A case takes one to five minutes; this one ends what the bounds of its waits did not end.
TIMEOUT_S = 1_200


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="the cluster's cases marked all_cases, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--all", default=False):  # unknown where this folder is one of many
        more = [item for item in items if item.get_closest_marker("all_cases") is not None]
        config.hook.pytest_deselected(items=more)
        items[:] = [item for item in items if item not in more]
    chosen = "CLUSTER_KUBECONFIG" in os.environ
    for item in items:
        if HERE in item.path.parents:
            if not chosen:
                reason = "needs a Kubernetes: make cluster-test"
                item.add_marker(pytest.mark.skip(reason=reason))
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))
            # One release, hurt case after case: in the order of the file, whatever else is sorted.
            item.add_marker(pytest.mark.xdist_group(NAMESPACE))


@pytest.fixture(scope="session")
def release() -> Release:
    """Of a namespace that allows nothing but the level `restricted`."""
    report.RESULTS.unlink(missing_ok=True)
    return Release(Cluster(NAMESPACE))


@pytest.fixture
def cluster(release: Release) -> Cluster:
    return release.cluster
