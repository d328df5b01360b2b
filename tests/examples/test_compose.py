"""The files of the Docker Compose example: each taken by its program, and all of them together."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import redis.asyncio
import yaml

from tests.dashboards.rules_files import BOARDS, RULES
from tests.examples.composition import FOLDER, PORTS, Composition, mounts, services
from tests.examples.example import CACHE, ROOT, run
from tests.harness.waiting import until
from tidegate import Viewer
from tidegate.model.settings import Settings

COMPOSE_GO = "v2.16.2"
DASHBOARDS = ROOT / "dashboards" / "compose"


def test_what_is_mounted_and_built_is_there() -> None:
    for name, service in services().items():
        for path in mounts(name).values():
            assert path.exists(), path
        if "build" in service:
            assert (FOLDER / service["build"] / "Dockerfile").exists()
    assert mounts("prometheus")["/etc/prometheus/rules"] == RULES
    assert mounts("grafana")["/var/lib/grafana/boards"] == BOARDS
    assert mounts("grafana")["/etc/grafana/provisioning"] == DASHBOARDS / "provisioning"


def test_every_address_is_that_of_a_service() -> None:
    texts = [path.read_text() for path in FOLDER.iterdir() if path.suffix in (".yaml", ".conf")]
    named = {*re.findall(r"(?<![\w./-])([a-z][a-z0-9-]*):(\d{4})\b", "\n".join(texts))}
    assert named
    for name, port in named:
        assert int(port) in PORTS[name]


def test_only_loopback_is_published() -> None:
    published = [port for one in services().values() for port in one.get("ports", ())]
    assert len(published) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port) for port in published)
    for name in ("nginx", "prometheus", "grafana"):
        (port,) = services()[name]["ports"]
        assert int(port.rpartition(":")[2]) in PORTS[name]


def test_images_and_datasource_are_those_of_the_other_compose_file() -> None:
    other = yaml.safe_load((DASHBOARDS / "compose.yaml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        assert services()[name]["image"] == other[name]["image"]
    assert services()["grafana"]["environment"].keys() <= other["grafana"]["environment"].keys()
    interval = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["global"]["scrape_interval"]
    source = (DASHBOARDS / "provisioning/datasources/prometheus.yaml").read_text()
    assert yaml.safe_load(source)["datasources"][0]["jsonData"]["timeInterval"] == interval


def test_a_gateway_has_the_time_for_its_drain() -> None:
    settings = Settings()
    needed_s = settings.drain.delay_s + settings.drain.window_s + settings.server.shutdown_timeout_s
    for name in ("gateway-1", "gateway-2"):
        assert int(services()[name]["stop_grace_period"].removesuffix("s")) > needed_s


@pytest.mark.real("nginx")
def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    done = subprocess.run(
        Composition(tmp_path).nginx_command("-t"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.real("promtool")
def test_prometheus_takes_its_configuration() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", "--syntax-only", FOLDER / "prometheus.yaml"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.full
@pytest.mark.skipif(shutil.which("go") is None, reason="no go here: put it on PATH")
@pytest.mark.timeout(600)  # it is built once
async def test_docker_compose_takes_both_files(tmp_path: Path) -> None:
    loader = await _loader()
    for file in (FOLDER / "compose.yaml", DASHBOARDS / "compose.yaml"):
        assert await run(loader, file, cwd=tmp_path) == (0, "")
    wrong = tmp_path / "compose.yaml"
    for before, after in (
        ("restart:", "restrat:"),
        ("depends_on: [gateway-1", "depends_on: [none"),
    ):
        wrong.write_text((FOLDER / "compose.yaml").read_text().replace(before, after))
        assert (await run(loader, wrong, cwd=tmp_path))[0] == 1


async def _loader() -> Path:
    """The program, built when its source or its library has changed."""
    source = Path(__file__).with_name("compose_loader.go").read_bytes()
    digest = hashlib.sha256(source + COMPOSE_GO.encode()).hexdigest()[:16]
    program = CACHE / f"compose-loader-{digest}"
    if not program.exists():
        folder = CACHE / "compose-loader"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "go.mod").unlink(missing_ok=True)
        (folder / "main.go").write_bytes(source)
        for command in (
            ("mod", "init", "example.com/loader"),
            ("get", f"github.com/compose-spec/compose-go/v2@{COMPOSE_GO}"),
            ("mod", "tidy"),
            ("build", "-o", str(program), "."),
        ):
            code, said = await run("go", *command, cwd=folder)
            assert code == 0, said
    return program


@pytest.mark.full
@pytest.mark.real("valkey9", "nginx", "prometheus")
@pytest.mark.timeout(240)
async def test_all_of_it_together_while_a_gateway_is_killed(tmp_path: Path) -> None:
    here = Composition(tmp_path)
    gateways = {name: here.gateway(name) for name in ("gateway-1", "gateway-2")}
    others = [here.valkey(), here.backend(), here.nginx(), here.prometheus()]
    async with AsyncExitStack() as stack:
        for process in (*others, *gateways.values()):
            await stack.enter_async_context(process)
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        for name in gateways:
            await _answers(http, f"{here.url(name, 9090)}/readyz")
        site = here.url("nginx", 8080)
        await _answers(http, f"{site}/")
        assert "<title>" in (await http.get(f"{site}/")).text

        # The index of the demo's operations, which its backend writes.
        async with Viewer("demo", site) as viewer:
            frames = aiter(viewer)
            assert (await anext(frames)).data
            (name,) = [one for one in gateways if await _viewers(http, here.url(one, 9090))]
            await gateways[name].kill()
            url = here.url("valkey", 6379).replace("http", "redis")
            async with redis.asyncio.Redis.from_url(url, decode_responses=True) as client:
                mark = await client.xadd("operation-progress:demo", {"after": "the kill"})
            async for frame in viewer:
                if frame.id == mark:
                    break

        async def is_told() -> bool:
            up = await _query(http, here.url("prometheus", 9090), 'up{job="tidegate"}')
            return sorted(up.values()) == ["0", "1"] and up[_instance(here, name)] == "0"

        await until(is_told)


async def _answers(http: httpx.AsyncClient, url: str) -> None:
    async def ok() -> bool:
        try:
            return (await http.get(url)).status_code == 200
        except httpx.HTTPError:
            return False

    await until(ok, url)


async def _viewers(http: httpx.AsyncClient, admin: str) -> bool:
    metrics = (await http.get(f"{admin}/metrics")).text
    return re.search(r'^tidegate_viewers\{state="live"\} [1-9]', metrics, re.MULTILINE) is not None


async def _query(http: httpx.AsyncClient, url: str, expr: str) -> dict[str, str]:
    """By instance."""
    answer = (await http.get(f"{url}/api/v1/query", params={"query": expr})).json()
    return {one["metric"]["instance"]: one["value"][1] for one in answer["data"]["result"]}


def _instance(here: Composition, name: str) -> str:
    return here.url(name, 9090).removeprefix("http://")
