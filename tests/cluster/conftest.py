"""The cluster that `run.sh` chose, and one release of the chart for all cases.

`make cluster-test` runs these tests, and `make test-rest` with the others; without a cluster pytest
passes them over by name.
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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    chosen = "CLUSTER_KUBECONFIG" in os.environ
    for item in items:
        if HERE in item.path.parents:
            if not chosen:
                reason = "needs a Kubernetes: make cluster-test"
                item.add_marker(pytest.mark.skip(reason=reason))
            item.add_marker(pytest.mark.timeout(400))
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
