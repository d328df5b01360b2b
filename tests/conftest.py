"""Fixtures that hand out real servers, the two tiers, and the rule for missing real parts.

`redis_server` is the one to use when any server will do; `any_server` runs the test on both ends of
the supported range. All of them are empty when the test starts and may be broken by it. A test
marked `real("redis7.0")` is skipped, by name and with the reason, where that part is missing.

`--tier quick` (`make test`) leaves out what is marked `full`; `--tier rest` runs that, and every
property again with many more examples; without the option everything runs.
In parallel (`-n`) each worker has servers of its own; what takes long to start is asked for by one
worker only, and first.
"""

import os
import signal
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.deadlines import Deadline
from tests.groups import GroupScheduling, group_of, write_down
from tests.servers import binaries
from tests.servers.cluster import Cluster
from tests.servers.kubernetes import Kubernetes
from tests.servers.sentinel import Sentinels
from tests.servers.shared import Shared
from tests.servers.standalone import Server
from tests.servers.tls import Certificates

# Who starts the tests in the background of a shell has Ctrl-C ignored, in all that they start, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How fast a property is checked is the machine's matter: a busy one must not fail it.
_ANY_MACHINE = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("quick", _ANY_MACHINE, max_examples=25)
hypothesis.settings.register_profile("long", _ANY_MACHINE, max_examples=100)
TIERS = ("quick", "rest", "all")
#: Of a session's parts these start slowest, so the tests that use one go to one worker, first.
_ONE_WORKER = ("kubernetes", "sentinel", "cluster")
#: Tests wait more than they compute.
WORKERS_PER_CORE = 2

# Both ends of what is supported, and whatever else is on PATH.
_OTHERS = [b.name for b in binaries.installed() if binaries.find("valkey9") != b]
SERVERS = list(dict.fromkeys([*binaries.WANTED, *_OTHERS]))
EMBEDDED = {"redis_server", "cluster", "cluster_with_replicas", "sentinel"}
KUBERNETES_TIMEOUT_S = 400
ON_EACH_SERVER = [
    pytest.param(
        name, marks=[pytest.mark.real(name), *([] if name == "valkey9" else [pytest.mark.full])]
    )
    for name in SERVERS
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tier", choices=TIERS, default="all", help="which tests (see CONTRIBUTING)")


def pytest_configure(config: pytest.Config) -> None:
    quick = config.getoption("--tier") == "quick"
    hypothesis.settings.load_profile("quick" if quick else "long")


@pytest.hookimpl(optionalhook=True)
def pytest_timeout_set_timer(item: Any, settings: Any) -> bool | None:
    """None leaves it to pytest-timeout."""
    if settings.method != "signal" or threading.current_thread() is not threading.main_thread():
        return None
    item.cancel_timeout = Deadline(settings.timeout).cancel
    return True


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"tier: {config.getoption('--tier')}", *binaries.report()]


def pytest_xdist_auto_num_workers() -> int:
    return WORKERS_PER_CORE * (os.cpu_count() or 1)


_GROUPS = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def _groups_file(config: pytest.Config) -> Path:
    if _GROUPS not in config.stash:
        config.stash[_GROUPS] = tempfile.TemporaryDirectory(prefix="tidegate-groups-")
    return Path(config.stash[_GROUPS].name) / "groups.json"


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["groups"] = str(_groups_file(node.config))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    if config.getoption("dist") != "loadgroup":
        return None
    return GroupScheduling(config, log, _groups_file(config))


def pytest_unconfigure(config: pytest.Config) -> None:
    if _GROUPS in config.stash:
        config.stash[_GROUPS].cleanup()


def _in_tier(item: pytest.Item, tier: str) -> bool:
    full = item.get_closest_marker("full") is not None
    if tier == "rest":
        return full or hasattr(getattr(item, "obj", None), "hypothesis")
    return tier == "all" or not full


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    _need_real_parts(items)
    tier = config.getoption("--tier")
    config.hook.pytest_deselected(items=[item for item in items if not _in_tier(item, tier)])
    items[:] = [item for item in items if _in_tier(item, tier)]
    for item in items:
        for part in _ONE_WORKER:
            if part in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(part))
                break
    items.sort(key=lambda item: (group_of(item) is None, -_limit_of(item)))
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if "groups" in worker:
        write_down(items, Path(worker["groups"]))


def _limit_of(item: pytest.Item) -> float:
    """Its own time limit: what may take longest is begun first, and is nobody's last test.

    Only beside other workers: else tests that share a fixture stay together.
    """
    mark = item.get_closest_marker("timeout")
    if mark is None or not mark.args or not hasattr(item.config, "workerinput"):
        return 0.0
    return float(mark.args[0])


def _need_real_parts(items: list[pytest.Item]) -> None:
    for item in items:
        wanted = [part for mark in item.iter_markers("real") for part in mark.args]
        if EMBEDDED & set(getattr(item, "fixturenames", ())):
            wanted.append("valkey9")
        if "kubernetes" in getattr(item, "fixturenames", ()):
            wanted.append("kube-apiserver")
            if item.get_closest_marker("timeout") is None:
                # An API server, etcd and operators share the two cores of a small machine.
                item.add_marker(pytest.mark.timeout(KUBERNETES_TIMEOUT_S))
        for part in wanted:
            if (reason := binaries.missing(part)) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


class _Shelf:
    """The shared parts of a session by name, made when first asked for."""

    def __init__(self) -> None:
        self.servers = {name: Shared(partial(_server, name)) for name in SERVERS}
        self.cluster = Shared(lambda: Cluster(binaries.embedded()))
        self.sentinel = Shared(lambda: Sentinels(binaries.embedded()))
        self.kubernetes = Shared(Kubernetes)

    def close(self) -> None:
        self.kubernetes.close()
        self.cluster.close()
        self.sentinel.close()
        for server in self.servers.values():
            server.close()


def _server(name: str) -> Server:
    return Server(binaries.require(name))


@pytest.fixture(scope="session")
def shelf() -> Iterator[_Shelf]:
    shelf = _Shelf()
    yield shelf
    shelf.close()


@pytest.fixture
async def redis_server(shelf: _Shelf) -> Server:
    """The embedded Valkey 9, empty."""
    return await shelf.servers["valkey9"].take()


@pytest.fixture(params=ON_EACH_SERVER)
async def any_server(shelf: _Shelf, request: pytest.FixtureRequest) -> Server:
    """Each server of the supported range that is here, empty."""
    return await shelf.servers[request.param].take()


@pytest.fixture
async def cluster(shelf: _Shelf) -> Cluster:
    """Three primaries without replicas, empty."""
    return await shelf.cluster.take()


@pytest.fixture
async def cluster_with_replicas() -> AsyncIterator[Cluster]:
    """Three primaries with a replica each; only for tests that fail over, so never shared."""
    async with Cluster(binaries.embedded(), replicas_each=1) as cluster:
        yield cluster


@pytest.fixture
async def sentinel(shelf: _Shelf) -> Sentinels:
    """A primary, a replica and three Sentinels; data empty."""
    return await shelf.sentinel.take()


@pytest.fixture
async def kubernetes(shelf: _Shelf) -> Kubernetes:
    """A Kubernetes API without controllers; make a namespace of your own."""
    return await shelf.kubernetes.take()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority of our own with a server and a client certificate."""
    return Certificates(tmp_path_factory.mktemp("tls"))
