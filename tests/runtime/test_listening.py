"""Sockets that a replica and the operator listen on, in both address families."""

from __future__ import annotations

import asyncio
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from tests.servers.ports import free_port
from tidegate.model.errors import TidegateError
from tidegate.runtime import listening
from tidegate.runtime.listening import EVERY_ADDRESS, WorkersPort, has_ipv6, listen
from tidegate_operator.telemetry.health import Health, serve_health

LOWAT = 16_384
needs_ipv6 = pytest.mark.skipif(
    not has_ipv6() or not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here"
)


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except ConnectionRefusedError:
        return False
    return True


@needs_ipv6
@pytest.mark.parametrize(
    ("host", "reached"),
    [(EVERY_ADDRESS, {"127.0.0.1", "::1"}), ("0.0.0.0", {"127.0.0.1"}), ("::1", {"::1"})],
)
def test_an_address_that_is_listened_on(host: str, reached: set[str]) -> None:
    """`0.0.0.0` was fixed in the chart: in a cluster of IPv6 only, no probe reached a pod."""
    with listen(host, 0, "server.port", LOWAT) as bound:
        port = bound.getsockname()[1]
        assert {one for one in ("127.0.0.1", "::1") if answers(one, port)} == reached


def test_every_address_of_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "has_ipv6", lambda: False)
    with listen(EVERY_ADDRESS, 0, "server.port", LOWAT) as bound:
        assert bound.family == socket.AF_INET
        assert answers("127.0.0.1", bound.getsockname()[1])


def test_a_port_of_workers_is_kept_while_none_of_them_listens_and_is_nobody_else_s() -> None:
    with WorkersPort("127.0.0.1", 0, "server.port", LOWAT) as port:
        number = port.number
        if sys.platform == "linux":  # elsewhere they share a socket that listens from the start
            assert not answers("127.0.0.1", number)
        with port.for_worker() as first, port.for_worker() as second:
            for worker in (first, second):
                worker.listen()
                assert worker.getsockname()[1] == number
            assert answers("127.0.0.1", number)
            # Other workers could join these with SO_REUSEPORT, and take half of the viewers.
            for taken in (
                lambda: WorkersPort("127.0.0.1", number, "server.port", LOWAT),
                lambda: listen("127.0.0.1", number, "server.port", LOWAT).__enter__(),
            ):
                with pytest.raises(TidegateError, match=r"server\.port: cannot listen"):
                    taken()
        with port.for_worker() as replacement:
            replacement.listen()
            assert answers("127.0.0.1", number)
    with listen("127.0.0.1", number, "server.port", LOWAT):
        pass


@needs_ipv6
def test_a_port_that_is_taken_in_one_family_is_taken() -> None:
    with listen("127.0.0.1", 0, "server.port", LOWAT) as other:
        port = other.getsockname()[1]
        taken = listen(EVERY_ADDRESS, port, "server.admin_port", LOWAT)
        with pytest.raises(TidegateError, match=r"server\.admin_port: cannot listen"), taken:
            pytest.fail("it is taken")


@needs_ipv6
async def test_the_operator_is_asked_for_its_health_in_both_families() -> None:
    def fine() -> Health:
        return Health(well=True, reason="")

    port = free_port()
    server = serve_health(
        "::", port, alive=fine, ready=fine, state=dict, registry=CollectorRegistry()
    )
    async with server as shown:
        assert shown == port
        for host in ("127.0.0.1", "[::1]"):
            with await asyncio.to_thread(
                urllib.request.urlopen, f"http://{host}:{port}/healthz"
            ) as answer:
                assert answer.status == 200
