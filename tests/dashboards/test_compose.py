"""The files for trying the boards out: Prometheus takes its own, and all paths lead somewhere."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from tests.dashboards.rules_files import BOARDS, ROOT, RULES
from tidegate.cli.top import DEFAULT_URLS

COMPOSE = ROOT / "dashboards" / "compose"


def _read(name: str) -> Any:
    return yaml.safe_load((COMPOSE / name).read_text())


@pytest.mark.real("promtool")
def test_prometheus_takes_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", str(COMPOSE / "prometheus.yaml")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_it_scrapes_what_make_run_starts() -> None:
    [job] = _read("prometheus.yaml")["scrape_configs"]

    targets = job["static_configs"][0]["targets"]
    assert [f"http://{target}" for target in targets] == list(DEFAULT_URLS)


def test_what_is_mounted_is_there() -> None:
    places = {}
    for service in _read("compose.yaml")["services"].values():
        for volume in service["volumes"]:
            source, target, mode = volume.split(":")
            assert mode == "ro"
            assert (COMPOSE / source).exists(), source
            places[target] = (COMPOSE / source).resolve()

    assert places["/var/lib/grafana/boards"] == BOARDS
    assert places["/etc/prometheus/rules"] == RULES
    [provider] = _read("provisioning/dashboards/tidegate.yaml")["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/boards"


def test_grafana_asks_the_prometheus_that_is_started() -> None:
    [source] = _read("provisioning/datasources/prometheus.yaml")["datasources"]
    services = _read("compose.yaml")["services"]
    url = services["grafana"]["environment"]["PROMETHEUS_URL"]

    assert source["url"] == "$PROMETHEUS_URL"
    assert (
        f"--web.listen-address={url.removeprefix('http://')}" in services["prometheus"]["command"]
    )
    assert (
        source["jsonData"]["timeInterval"] == _read("prometheus.yaml")["global"]["scrape_interval"]
    )
