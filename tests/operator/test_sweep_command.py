"""`tidegate-operator sweep`, the real command over real servers; once as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.command import Done, environment, finish, invoke_app
from tests.harness.backend import PREFIX
from tests.operator.sweeping import DAY_S, HOUR_S, Streamer
from tests.servers.cluster import Cluster
from tests.servers.sentinel import Sentinels
from tests.servers.standalone import Server
from tidegate_operator.cli import views
from tidegate_operator.cli.main import app
from tidegate_operator.model.streams import Ttl

COMMAND = (sys.executable, "-m", "tidegate_operator.cli.main", "sweep")


async def start(*arguments: str, **env: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment(**env)
    )


async def run(*arguments: str, **env: str) -> Done:
    return await invoke_app(app, "sweep", *arguments, **env)


@pytest.fixture
async def backend(redis_server: Server) -> AsyncIterator[Streamer]:
    async with redis_server.client() as client:
        yield Streamer(client)


async def some(backend: Streamer) -> None:
    await backend.ended("1")
    await backend.ended("2", status="failed")
    await backend.publish("3")


async def test_once_as_json(redis_server: Server, backend: Streamer) -> None:
    await some(backend)
    done = await finish(await start("--once", "--json", "--redis", redis_server.url))
    assert done.code == 0, done.err
    report = json.loads(done.out)
    others = {"idle": 0, "orphan": 0, "foreign": 0}
    assert report["streams"] == {"running": 1, "finished": 1, "failed": 1, **others}
    assert report["expiring"] == {"finished": 1, "failed": 1, "idle": 0, "orphan": 0}
    assert not report["dryRun"]
    assert await backend.ttl_s("1") == pytest.approx(HOUR_S, abs=30)
    assert await backend.ttl_s("3") is None


async def test_a_dry_run_says_so_and_changes_nothing(
    redis_server: Server, backend: Streamer
) -> None:
    await some(backend)
    done = await run("--once", "--dry-run", TIDEGATE_REDIS__URL=redis_server.url)
    assert done.code == 0, done.err
    assert "nothing was changed" in done.out
    assert "TTL to be set" in done.out
    assert "no consumer counts as dead" in done.out
    assert await backend.ttl_s("1") is None


async def test_flags_go_before_the_file_and_the_file_before_defaults(
    redis_server: Server, backend: Streamer, tmp_path: Path
) -> None:
    await some(backend)
    await backend.ended("import-1")
    file = tmp_path / "gateway.yaml"
    file.write_text(
        f"kind: Gateway\nspec:\n  target: {{name: x}}\n  streams:\n"
        f"    ttl: {{finishedS: 7200, failedS: 7200}}\n"
        f"    overrides: [{{prefix: '{PREFIX}import-', finishedS: 900}}]\n"
    )
    flags = ("--once", "--json", "--redis", redis_server.url, "--gateway", str(file))
    done = await run(*flags, "--failed", "7d")
    assert done.code == 0, done.err
    assert await backend.ttl_s("1") == pytest.approx(7200, abs=30)
    assert await backend.ttl_s("2") == pytest.approx(7 * DAY_S, abs=30)
    assert await backend.ttl_s("import-1") == pytest.approx(900, abs=30)


async def test_the_gateways_own_settings_hold(redis_server: Server, backend: Streamer) -> None:
    await backend.client.xadd("jobs:1", {"status": "done"})
    await backend.client.xadd("jobs:2", {"status": "completed"})
    done = await run(
        *("--once", "--json", "--redis", redis_server.url, "--prefix", "jobs:"),
        *("--set", "topic.terminal_statuses=done"),
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["streams"]["finished"] == 1
    assert await backend.client.ttl("jobs:1") > 0
    assert await backend.client.ttl("jobs:2") == -1


async def test_a_cluster(cluster: Cluster) -> None:
    async with cluster.client() as client:
        for number in range(30):
            await client.xadd(f"{PREFIX}{number}", {"status": "completed"})
    done = await run("--once", "--json", "--redis", cluster.url)
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["expiring"]["finished"] == 30
    assert len(report["memory"]) == 3


async def test_sentinel(sentinel: Sentinels) -> None:
    async with (await sentinel.primary()).client() as client:
        backend = Streamer(client)
        await some(backend)
        done = await run("--once", "--json", "--redis", sentinel.url)
        assert done.code == 0, done.err
        report = json.loads(done.out)
        assert report["streams"]["running"] == report["expiring"]["finished"] == 1
        assert await backend.ttl_s("1") == pytest.approx(HOUR_S, abs=30)
        assert await backend.ttl_s("3") is None


async def test_lines_where_there_is_no_terminal(
    redis_server: Server, backend: Streamer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "LINE_S", 0.1)
    for number in range(30):
        await backend.publish(str(number))
    done = await run("--once", "--redis", redis_server.url, "--commands-per-s", "100")
    assert done.code == 0
    assert "of primary 1 of 1" in done.err
    assert "\x1b" not in done.err


async def test_a_bar_on_a_terminal(redis_server: Server, backend: Streamer) -> None:
    await some(backend)
    terminal, its_end = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("--once", "--redis", redis_server.url),
            stdin=PIPE,
            stdout=PIPE,
            stderr=its_end,
            env=environment(TERM="xterm"),
        )
        out, _ = await process.communicate(b"")
        shown = os.read(terminal, 65_536).decode()
    finally:
        os.close(terminal)
        os.close(its_end)
    assert process.returncode == 0
    assert "primaries" in shown
    assert "finished" in out.decode()


async def test_ctrl_c_ends_it_between_two_rounds(redis_server: Server, backend: Streamer) -> None:
    await some(backend)
    process = await start("--json", "--interval", "1h", "--redis", redis_server.url)
    assert process.stdout is not None
    async with asyncio.timeout(30):
        assert json.loads(await process.stdout.readline())["expiring"]["finished"] == 1
    process.send_signal(signal.SIGINT)
    done = await finish(process)
    assert done.code == 130
    assert "Traceback" not in done.err


async def test_the_help_says_what_each_flag_does_with_the_defaults_as_they_are() -> None:
    done = await run("--help")
    assert done.code == 0
    told = " ".join(re.sub(r"[^ -~]", " ", done.out).split())
    for flag, value in Ttl():
        name = flag.removesuffix("_s")
        match = re.search(rf"--{name} TIME How long [a-z ]+ are kept \((\d+)h\)\.", told)
        assert match is not None, name
        assert int(match[1]) * HOUR_S == value


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--prefix", "*jobs"), "--prefix: must be 4 to 128 characters"),
        (("--prefix", "b"), "--prefix: must be 4 to 128 characters"),
        (("--prefix", "tide"), "streams.prefix must not cover keys that the gateway keeps"),
        (("--prefix", ""), "prefix"),
        (("--finished", "soon"), "--finished: must be a time such as 90s, 30m, 24h or 7d"),
        (("--finished", "-1"), "--finished: must be a time"),
        (("--finished", "5s"), "finishedS must be 60 or more"),
        (("--finished", "9000d"), "less than or equal to 31536000"),
        (("--keep", "0"), "greater than or equal to 1"),
        (("--commands-per-s", "1"), "greater than or equal to 10"),
        (("--gateway", "/nowhere.yaml"), "cannot be read: No such file"),
        (("--redis", "http://x"), "must start with one of redis://"),
    ],
)
async def test_what_makes_no_sense_is_refused_in_words(flags: tuple[str, str], words: str) -> None:
    done = await run("--once", *flags)
    assert done.code == 2, done.err
    assert words in done.err.replace("\n", " ")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not YAML"),
        ("- 1", "must be a Gateway resource"),
        ("streams: 5", "spec.streams must be an object"),
        ("streams: {ttl: {soon: 1}}", "spec.streams.ttl.soon"),
        ("streams: {overrides: [{prefix: other}]}", "must begin with streams.prefix"),
        ("kind: Gateway\nspec: {streams: {ttl: 5}}", "spec.streams.ttl"),
        ("\x00", "is not YAML"),
        ("[" * 5000, "is not YAML"),
    ],
)
async def test_a_file_that_makes_no_sense_is_refused_in_words(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    done = await run("--once", "--gateway", str(file))
    assert done.code == 2, done.err
    assert words in done.err.replace("\n", " ")
    assert "Traceback" not in done.err


async def test_a_redis_that_is_away_is_told_with_what_to_do(redis_server: Server) -> None:
    gone = Server(redis_server.binary)
    done = await run("--once", "--redis", gone.url, "--patience", "0.3")
    assert done.code == 1
    assert "run it again" in done.err
    assert "Traceback" not in done.err


async def test_a_wrong_password_is_told_and_not_shown(redis_server: Server) -> None:
    url = redis_server.url.replace("redis://", "redis://nobody:s3cret@")
    done = await run("--once", "--redis", url, "--patience", "0")
    assert done.code == 1
    assert "s3cret" not in done.out + done.err
