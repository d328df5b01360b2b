"""The tours of the documentation, as they are written: each command, and what the text says of it.

Only addresses are replaced: ports by free ones, and the names of machines that do not exist by this
one. What takes longer than a tour may is of the tier `full`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.command import Done, end_all, environment
from tests.cli.test_demo_page import bar, card, opened, watch
from tests.cli.test_run import Run, running
from tests.docs.console import ROOT, Tour, blocks, fences
from tests.faults.replicas import Ports
from tests.harness import programs
from tests.harness.replica import Replica
from tests.harness.wheelhouse import pip_environment, wheelhouse
from tests.proxies.programs import NginxProxy
from tests.proxies.site import HOSTS, Site
from tests.servers.ports import free_port, free_ports_in_a_row
from tests.servers.standalone import Server
from tests.servers.tls import Certificates
from tests.web.auth.tokens import SECRET, signed

#: The pages with commands that run, each with the tests that run them.
TOURS: Mapping[str, tuple[str, ...]] = {
    "README.md": (
        "test_the_tours_of_a_running_demo",
        "test_each_command_moves_the_bar_on_the_page",
        "test_make_run_from_nothing",
    ),
    "docs/grafana.md": ("test_the_tours_of_a_running_demo",),
    "docs/logs.md": ("test_the_tours_of_a_running_demo",),
    "docs/admission.md": ("test_tokens_and_disconnects",),
    "docs/install.md": ("test_the_doctor", "test_the_doctor_where_nothing_answers"),
    "docs/operator.md": ("test_a_simulation_and_two_sweeps",),
    "docs/proxies.md": ("test_the_doctor_behind_a_proxy",),
    "docs/publishing.md": ("test_a_program_as_an_operation",),
    "docs/sizing.md": ("test_an_estimate",),
    "docs/tracing.md": ("test_a_replica_that_traces",),
}
TIMEOUT_S = 60.0
#: An installation of 45 packages and a demo, on a machine that runs other tests.
MAKE_RUN_TIMEOUT_S = 400.0


class Shell:
    """Runs commands as a reader would, in a folder that has `.venv`."""

    def __init__(self, folder: Path, addresses: Mapping[str, str], **env: str) -> None:
        self.folder = folder
        (folder / ".venv").mkdir(parents=True)
        (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        self._addresses = addresses
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.env = environment(PATH=path, **env)

    def replaced(self, command: str) -> str:
        """With addresses of this test; each that the tour names must be known."""
        for name, address in self._addresses.items():
            command = command.replace(name, address)
        return command

    async def start(self, command: str, **more: Any) -> asyncio.subprocess.Process:
        missing = [name for name in ("curl", "jq", "redis-cli", "openssl") if name in command]
        for name in missing:
            if shutil.which(name) is None:
                pytest.skip(f"no {name} here: put it on PATH")
        options: dict[str, Any] = {
            "cwd": self.folder,
            "env": self.env,
            "stdin": asyncio.subprocess.DEVNULL,
            "stdout": asyncio.subprocess.PIPE,
            "stderr": asyncio.subprocess.PIPE,
            "start_new_session": True,
        }
        script = f"set -o pipefail\n{self.replaced(command)}"
        return await asyncio.create_subprocess_exec("bash", "-c", script, **(options | more))

    async def run(self, command: str) -> Done:
        return await programs.ended(await self.start(command), TIMEOUT_S)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, ours: int, process: asyncio.subprocess.Process) -> None:
        self._ours = ours
        self.process = process
        self.seen = b""

    async def until(self, text: str) -> None:
        """Read on until it shows this."""
        async with asyncio.timeout(TIMEOUT_S):
            while text.encode() not in self.seen:
                try:
                    self.seen += await asyncio.to_thread(os.read, self._ours, 4096)
                except OSError:  # nobody has it open any more
                    raise AssertionError(f"ended without {text!r}: {self.seen!r}") from None

    async def exit_code(self) -> int:
        """Read on until it has ended."""
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    self.seen += await asyncio.to_thread(os.read, self._ours, 4096)
                except OSError:
                    return await self.process.wait()


@asynccontextmanager
async def on_terminal(shell: Shell, command: str) -> AsyncIterator[Terminal]:
    ours, theirs = os.openpty()
    try:
        process = await shell.start(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=shell.env | {"TERM": "xterm", "COLUMNS": "120"},
        )
    finally:
        os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        await programs.end(process)
        os.close(ours)


@pytest.fixture(autouse=True)
async def no_command_is_left() -> AsyncIterator[None]:
    yield
    await end_all()


def test_the_tests_of_each_tour_are_here() -> None:
    assert [name for names in TOURS.values() for name in names if name not in globals()] == []


@pytest.mark.real("valkey9")
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.timeout(300)
async def test_the_tours_of_a_running_demo(tmp_path: Path) -> None:
    async with running(tmp_path, "--restart-after", "1") as run:
        (first, second), ports = run.urls, run.ports
        admins = ports[1], ports[3]
        addresses = {
            "127.0.0.1:8080": first.removeprefix("http://"),
            "127.0.0.1:8081": second.removeprefix("http://"),
            "127.0.0.1:9090": f"127.0.0.1:{admins[0]}",
            "127.0.0.1:9091": f"127.0.0.1:{admins[1]}",
            "-p 6390": f"-p {ports[4]}",
            "redis://redis.example:6379/0": run.redis_url,
        }
        shell = Shell(tmp_path / "shell", addresses, TOKEN="not needed on loopback")
        await _readme(shell, run)
        await _top(shell, admins)
        await _debug(shell)
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


async def _readme(shell: Shell, run: Run) -> None:
    tour = Tour("README.md")
    assert tour.take("make run")  # `running` is what it runs; see also `test_make_run_from_nothing`
    assert tour.take("make test")
    async with on_terminal(shell, tour.take(".venv/bin/tidegate watch hello")) as watching:
        await watching.until("not started yet")
        for percent in (" 40%", " 70%"):
            done = await shell.run(tour.take("redis-cli -p 6390 XADD operation-progress:hello"))
            assert done.code == 0
            await watching.until(percent)
        assert (await shell.run(tour.take("redis-cli"))).code == 0
        assert await watching.exit_code() == 0
    last = watching.seen.decode().replace("\r", "").rstrip().splitlines()[-1]
    assert "hello: completed, 100%" in last

    # The lines that `make run` prints, and the replica that is killed with one of them.
    ((kill,),) = run.said(r"^  kill +(kill -9 \d+) ")
    assert (await shell.run(kill)).code == 0
    await run.until(r"replica-2 \(pid \d+\) was killed by SIGKILL; starts again in 1 s")
    await run.until(r"replica-2 is started again")
    async with httpx.AsyncClient() as http:
        (admin,) = run.said(r"^replica-1 .* admin (\S+) ")[0]
        assert "<title>" in (await http.get(admin + "/")).text

    serving = tour.take("TIDEGATE_AUTH__SECRET=$(openssl rand -hex 32) tidegate serve")
    await _serves(shell, serving, status=401)
    tour.finish()


async def _serves(shell: Shell, command: str, *, status: int) -> None:
    """It does, until it is asked to end; viewers without a token get this status."""
    port, admin = free_ports_in_a_row(1), free_port()
    more = {"TIDEGATE_SERVER__PORT": str(port), "TIDEGATE_SERVER__ADMIN_PORT": str(admin)}
    process = await shell.start(command, env=shell.env | more, stderr=asyncio.subprocess.STDOUT)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said = b""
            while b"serving" not in said:
                line = await process.stdout.readline()
                assert line, said.decode()
                said += line
            async with httpx.AsyncClient() as http:
                answer = await http.get(f"http://127.0.0.1:{port}/operations/none")
            assert answer.status_code == status, answer.text
            os.killpg(process.pid, signal.SIGTERM)
            await process.stdout.read()
            await process.wait()
    finally:
        await programs.end(process)


async def _top(shell: Shell, admins: tuple[int, int]) -> None:
    tour = Tour("docs/grafana.md")
    async with on_terminal(shell, tour.take("tidegate top --url")) as top:
        await top.until("replica-1")
        await top.until("replica-2")
    # Without --url it asks the ports that `tidegate run` has by default.
    urls = " ".join(f"--url http://127.0.0.1:{port}" for port in admins)
    async with on_terminal(shell, f"{tour.take('tidegate top --sort lagging')} {urls}") as top:
        await top.until("replica-1")
    command = tour.take("tidegate top --once --json | jq").replace("--once", f"--once {urls}")
    done = await shell.run(command)
    assert done.code == 0, done
    assert '"name": "replica-1"' in done.out
    assert '"latency_p99_s"' in done.out
    tour.finish()


async def _debug(shell: Shell) -> None:
    tour = Tour("docs/logs.md")
    assert (await shell.run("redis-cli -p 6390 XADD operation-progress:42 '*' n 1")).code == 0
    shown = json.loads((await shell.run(tour.take("curl -s 127.0.0.1:9090/debug"))).out)
    assert shown["followed"] is False
    tasks = json.loads((await shell.run(tour.take('curl -s -H "Authorization'))).out)
    assert tasks
    tour.finish()


async def test_tokens_and_disconnects(redis_server: Server, tmp_path: Path) -> None:
    groups: dict[str, Any] = {
        "server": {"auth": "jwt", "admin_token": "the token of the admin port"},
        "auth": {"secret": SECRET},
        "source": {"kind": "none"},
    }
    tour = Tour("docs/admission.md")
    async with Replica(redis_server.url, **groups) as replica:
        shell = Shell(
            tmp_path,
            {"127.0.0.1:9090": f"127.0.0.1:{replica.settings.server.admin_port}"},
            ADMIN_TOKEN="the token of the admin port",
        )
        made = [tour.take("export TIDEGATE_AUTH__SECRET="), tour.take("export TIDEGATE_TOKEN=")]
        done = await shell.run("\n".join([*made, tour.take("tidegate token check")]))
        assert done.code == 0, done
        assert done.out.startswith("accepted\n")
        assert "sub = user-1" in done.out

        for path in ("users/alice", "operations/42"):
            command = tour.take("curl -X POST")
            assert f"/admin/{path}/disconnect" in command
            assert json.loads((await shell.run(command)).out)["replicas"] == 1
        url = f"http://127.0.0.1:{replica.settings.server.port}/operations/42/events"
        for claims in ({"jti": "7f3a"}, {"iat": 1}):
            viewer = {"Authorization": f"Bearer {signed(sub='alice', **claims)}"}
            async with httpx.AsyncClient(headers=viewer) as http:
                assert (await http.get(url)).status_code == 404
                assert json.loads((await shell.run(tour.take("curl -X POST"))).out)["replicas"] == 1
                revoked = (await http.get(url)).json()
            assert revoked["code"] == "token_revoked"
    tour.finish()


async def test_the_doctor(redis_server: Server, tmp_path: Path) -> None:
    tour = Tour("docs/install.md")
    async with Replica(redis_server.url) as replica:
        gateway = f"http://127.0.0.1:{replica.settings.server.port}"
        addresses = {
            "redis://redis.example:6379/0": redis_server.url,
            "https://gateway.example.com": gateway,
        }
        shell = Shell(tmp_path, addresses)
        done = await shell.run(tour.take("tidegate doctor --redis"))
        assert done.code == 0, done
        checks = set(re.findall(r"^  ok +([a-z]+(?: [a-z]+)?)  ", done.out, re.MULTILINE))
        assert {"connection", "version", "cluster", "tracking", "acl", "eviction"} <= checks, done
        report = json.loads((await shell.run(tour.take("tidegate doctor --url"))).out)
    assert {one["check"] for one in report["findings"]} == {"http", "websocket", "event stream"}
    assert report["verdict"] in ("ok", "warning")
    tour.finish()


async def test_the_doctor_where_nothing_answers(tmp_path: Path) -> None:
    tour = Tour("docs/install.md")
    nobody = f"127.0.0.1:{free_port()}"
    shell = Shell(
        tmp_path, {"redis.example:6379": nobody, "https://gateway.example.com": f"http://{nobody}"}
    )
    first = await shell.run(tour.take("tidegate doctor --redis"))
    second = await shell.run(tour.take("tidegate doctor --url"))
    assert (first.code, second.code) == (1, 1)
    assert "-> no server listens there" in first.out
    wrong = await shell.run("tidegate doctor --redis http://127.0.0.1")
    assert wrong.code == 2
    tour.finish()


@pytest.mark.real("nginx")
async def test_the_doctor_behind_a_proxy(
    redis_server: Server, tmp_path: Path, certificates: Certificates
) -> None:
    tour = Tour("docs/proxies.md")
    async with Replica(redis_server.url) as replica:
        ports = Ports(replica.settings.server.port, replica.settings.server.admin_port)
        hosts = dict.fromkeys(HOSTS, "127.0.0.1")
        async with NginxProxy(Site(ports, certificates, hosts)) as proxy:
            shell = Shell(
                tmp_path,
                {"https://progress.example/progress": proxy.url},
                SSL_CERT_FILE=str(certificates.ca_file),
            )
            done = await shell.run(tour.take("tidegate doctor --url"))
    assert done.code == 0, done
    assert "a gateway answers" in done.out
    assert "a ping takes" in done.out
    tour.finish()


async def test_a_simulation_and_two_sweeps(redis_server: Server, tmp_path: Path) -> None:
    tour = Tour("docs/operator.md")
    shell = Shell(tmp_path, {"redis://redis:6379/0": redis_server.url}, COLUMNS="80")
    command = tour.take("tidegate-operator simulate --trace flash-crowd")
    (page,) = (fence.text for fence in fences() if f"$ {command}\n" in fence.text)
    assert (await shell.run(command)).out.split() == page.partition("\n")[2].split()

    async with redis_server.client() as client:
        key = "operation-progress:old"
        await client.xadd(key, {"status": "completed"}, id="1-0")
        dry = await shell.run(tour.take("tidegate-operator sweep --once --dry-run"))
        assert dry.code == 0, dry
        assert await client.ttl(key) == -1
        done = await shell.run(tour.take("tidegate-operator sweep --once"))
        assert done.code == 0, done
        assert await client.ttl(key) != -1  # it has a time to live, or is gone already
    tour.finish()


async def test_an_estimate(tmp_path: Path) -> None:
    """What the page shows is what the command prints."""
    tour = Tour("docs/sizing.md")
    shell = Shell(tmp_path, {}, COLUMNS="80")
    for beginning in ("tidegate size --viewers 10000 ", "tidegate size --viewers 1000000 "):
        command = tour.take(beginning)
        (page,) = (fence.text for fence in fences() if f"$ {command}\n" in fence.text)
        done = await shell.run(command)
        assert (done.code, done.out.split()) == (0, page.partition("\n")[2].split())
    tour.finish()


async def test_a_replica_that_traces(redis_server: Server, tmp_path: Path) -> None:
    tour = Tour("docs/tracing.md")
    shell = Shell(
        tmp_path,
        {"collector:4318": f"127.0.0.1:{free_port()}"},
        TIDEGATE_REDIS__URL=redis_server.url,
    )
    await _serves(shell, tour.take("TIDEGATE_TRACING__EXPORTER=otlp"), status=404)
    tour.finish()


async def test_a_program_as_an_operation(redis_server: Server, tmp_path: Path) -> None:
    tour = Tour("docs/publishing.md")
    shell = Shell(tmp_path, {}, TIDEGATE_REDIS__URL=redis_server.url)
    script = tmp_path / "export.sh"
    script.write_text('#!/bin/sh\necho "$OPERATION_ID $* 100%"\n')
    script.chmod(0o755)
    done = await shell.run(tour.take("tidegate run-task"))
    assert (done.code, done.out) == (0, "42 --all 100%\n")
    async with redis_server.client() as client:
        newest: Any = await client.xrevrange("operation-progress:42", count=1)
    assert b"operation_completed" in newest[0][1][b"message"]
    tour.finish()


@pytest.mark.full
@pytest.mark.real("chromium", "valkey9")
async def test_each_command_moves_the_bar_on_the_page(tmp_path: Path) -> None:
    async with running(tmp_path, "--operations", "0") as run, opened(f"{run.urls[0]}/") as page:
        shell = Shell(tmp_path / "shell", {"-p 6390": f"-p {run.ports[4]}"})
        publishing = [
            command
            for block in blocks("README.md")
            for command in block.commands
            if command.startswith("redis-cli")
        ]
        assert len(publishing) == 3
        await watch(page, "hello")
        for command, percent in zip(publishing[:2], ("40", "70"), strict=True):
            assert (await shell.run(command)).code == 0
            await page.until(
                f"{bar('hello', 'track')}?.getAttribute('aria-valuenow') === '{percent}'"
            )
        assert (await shell.run(publishing[2])).code == 0
        await page.until(f"{bar('hello', 'track')}?.getAttribute('aria-valuenow') === '100'")
        await page.until(f"{card('hello', 'dataset.state')} === 'completed'")
        assert await run.end(signal.SIGINT) == 0


@pytest.mark.full
@pytest.mark.real("node")
async def test_a_page_of_ones_own(redis_server: Server, tmp_path: Path) -> None:
    """The lines of README.md, in Node, which has the WebSocket of browsers."""
    (lines,) = (f.text for f in fences() if f.page == "README.md" and f.kind == "js")
    async with Replica(redis_server.url) as replica:
        address = f"127.0.0.1:{replica.settings.server.port}"
        shell = Shell(tmp_path, {})
        page = tmp_path / "page.mjs"
        page.write_text(lines.replace("127.0.0.1:8080", address))
        async with redis_server.client() as client:
            await client.xadd("operation-progress:hello", {"status": "completed"})
        done = await shell.run(f"node --experimental-websocket {page}")
    assert done.code == 0, done
    assert "type: 'current_state'" in done.out
    assert "status: 'completed'" in done.out


@pytest.mark.full
@pytest.mark.real("valkey9")
@pytest.mark.timeout(900)
async def test_make_run_from_nothing(tmp_path: Path) -> None:
    """In a copy of the sources, with an environment that it makes of wheels that are here."""
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("service", "operator"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    port, admin, redis = (free_ports_in_a_row(2) for _ in range(3))
    flags = f"--port {port} --admin-port {admin} --redis-port {redis} --minutes 0.01"
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", Tour("README.md").take("make run")),
        cwd=copy,
        env=environment(ARGS=flags, **pip_environment(wheelhouse())),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    done = await programs.ended(process, MAKE_RUN_TIMEOUT_S)
    said = done.out
    assert done.code == 0, said
    for line in (
        "installing .[embedded] into .venv",
        "Next, in another terminal:",
        "nothing is left",
    ):
        assert line in said
    assert re.search(r"^  installing \d+ packages$", said, re.MULTILINE)
    packages = {
        path.name.partition("-")[0] for path in copy.glob(".venv/lib/*/site-packages/*.dist-info")
    }
    assert not packages & {"kopf", "mypy", "pytest", "ruff", "schemathesis"}
    sys.stderr.write(f"make run from nothing: {time.monotonic() - began:.0f} s\n")


def test_no_tour_is_forgotten() -> None:
    assert len({block.page for block in blocks() if block.reason is None}) == len(TOURS)
