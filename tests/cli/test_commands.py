"""What the commands say about themselves: help, version, settings, and refusals to start."""

import json
import sys
from pathlib import Path

import pytest
import yaml

from tests.cli.command import environment, invoke, run
from tests.servers.process import Process
from tidegate import __version__
from tidegate.cli.settings_fields import setting_fields
from tidegate.cli.settings_page import settings_page
from tidegate.core.compiled import engine

REPOSITORY = Path(__file__).parents[2]


async def test_version() -> None:
    assert (await invoke("--version")).out == f"tidegate {__version__} ({engine()})\n"


@pytest.mark.parametrize(
    "command", ["run", "serve", "publish", "watch", "top", "doctor", "token", "settings"]
)
async def test_each_command_has_help_with_an_example(command: str) -> None:
    done = await invoke(command, "--help")
    assert done.code == 0
    assert "Example" in done.out
    assert f"tidegate {command}" in done.out


async def test_help_is_quick_because_it_imports_nothing_heavy(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tidegate.cli.main import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'redis', 'fastapi', 'uvicorn', 'websockets', 'yaml', 'asyncio'}\n"
        "print('HEAVY', sorted(heavy & sys.modules.keys()))\n"
    )
    process = Process(
        [sys.executable, "-c", program], log_file=tmp_path / "log", environment=environment()
    )
    process.spawn()
    assert await process.wait(30) == 0
    assert process.log_tail(1) == "HEAVY []"


def test_the_reference_page_is_current() -> None:
    committed = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert committed == settings_page(), "run: tidegate settings --markdown > docs/settings.md"


async def test_settings_markdown_is_the_page() -> None:
    assert (
        await invoke("settings", "--markdown", TIDEGATE_LOG__LEVEL="debug")
    ).out == settings_page()


SECRET = "hunter2"
SECRETS = {
    "TIDEGATE_REDIS__URL": f"redis://u:{SECRET}@h",
    "TIDEGATE_REDIS__PASSWORD": SECRET,
}


@pytest.mark.parametrize("form", [(), ("--json",), ("--yaml",)])
async def test_settings_shows_no_secret(form: tuple[str, ...]) -> None:
    done = await invoke("settings", *form, **SECRETS)
    assert done.code == 0
    assert SECRET not in done.out + done.err
    assert "redis://u:***@h" in done.out


async def test_settings_shows_values_and_sources() -> None:
    done = await invoke("settings", "--port", "1", "--set", "log.level=debug", **SECRETS)
    rows = [line.split() for line in done.out.splitlines() if line.strip()]
    assert rows[0] == ["setting", "value", "from"]
    assert ["server.port", "1", "--port"] in rows
    assert ["log.level", "debug", "--set"] in rows
    assert ["redis.password", "***", "TIDEGATE_REDIS__PASSWORD"] in rows
    assert len(rows) == 1 + len(setting_fields())


async def test_settings_as_json() -> None:
    shown = json.loads((await invoke("settings", "--json", "--port", "1", **SECRETS)).out)
    assert shown["settings"]["server"]["port"] == 1
    assert shown["settings"]["redis"]["password"] == "***"
    assert shown["sources"]["server.port"] == "--port"
    assert shown["sources"].keys() == setting_fields().keys()


async def test_settings_as_yaml_is_a_file_for_config(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        (await invoke("settings", "--yaml", "--port", "1", "--pod", "no", **SECRETS)).out
    )
    assert "password" not in yaml.safe_load(file.read_text())["redis"]
    again = json.loads((await invoke("settings", "--json", "--config", str(file))).out)
    assert again["settings"]["server"]["port"] == 1
    assert again["settings"]["server"]["pod"] == "no"
    assert again["settings"]["redis"]["url"] == "redis://127.0.0.1:6379/0"


async def test_settings_forms_exclude_one_another() -> None:
    assert (await invoke("settings", "--json", "--yaml")).code == 2


@pytest.mark.parametrize("command", ["serve", "settings", "publish 42 {}", "run"])
async def test_wrong_settings_end_every_command_with_2(command: str) -> None:
    done = await run(*command.split(), TIDEGATE_VIEWER__LAGGING_POLICY="drop", TIDEGATE_NOPE="1")
    assert done.code == 2
    assert done.out == ""
    assert done.err.splitlines() == [
        "tidegate: TIDEGATE_NOPE: no such variable (from the environment)",
        (
            "tidegate: viewer.lagging_policy = drop: must be one of conflate, replay, disconnect "
            "(from TIDEGATE_VIEWER__LAGGING_POLICY)"
        ),
    ]


async def test_serve_does_not_start_without_auth() -> None:
    done = await run("serve")
    assert done.code == 2
    assert "--auth none" in done.err
    assert "--auth jwt" in done.err


async def test_serve_says_what_is_wrong_with_an_address() -> None:
    done = await run("serve", "--auth", "none", "--redis", "redis+sentinel://h")
    assert done.code == 2
    assert "ends with the master's name" in done.err
