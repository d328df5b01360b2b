"""The programs of docs/publishing.md, as they stand there, with the real tools and clients.

What a package manager installs is kept in the cache. A tool that is missing skips its test.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.harness import programs
from tests.harness.backend import PREFIX, Backend
from tests.harness.cached import CACHE
from tests.integrations.environment import ROOT
from tests.integrations.stream import steps, written
from tests.servers import binaries
from tests.servers.standalone import Server
from tidegate.model.folded_state import FoldedState, fold

pytestmark = [pytest.mark.full, pytest.mark.timeout(900)]

IOREDIS, GO_REDIS, JEDIS = "5.8.2", "v9.17.2", "7.0.0"
_RECIPE = re.compile(r"<!-- recipe: (\w+) -->\n```\w+\n(.*?)```", re.DOTALL)


def recipes() -> dict[str, str]:
    return dict(_RECIPE.findall((ROOT / "docs" / "publishing.md").read_text("utf-8")))


async def run(folder: Path, *command: str, **env: str) -> str:
    done = await programs.run(*command, cwd=folder, env=env)
    assert done.code == 0, f"{command}: {done.out}"
    return done.out


def needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here: put it on PATH")


async def shell(folder: Path, text: str) -> tuple[str, ...]:
    needs("redis-cli")
    (folder / "export.sh").write_text(text)
    return ("sh", "-eu", "export.sh")


async def node(folder: Path, text: str) -> tuple[str, ...]:
    if (reason := binaries.missing("node")) is not None:
        pytest.skip(reason)
    (folder / "export.mjs").write_text(text)
    if not (folder / "node_modules" / "ioredis").exists():
        await run(folder, "npm", "install", "--silent", "--no-fund", f"ioredis@{IOREDIS}")
    return ("node", "export.mjs")


async def go(folder: Path, text: str) -> tuple[str, ...]:
    needs("go")
    (folder / "main.go").write_text(text)
    if not (folder / "go.mod").exists():
        await run(folder, "go", "mod", "init", "example.com/export")
    await run(folder, "go", "get", f"github.com/redis/go-redis/v9@{GO_REDIS}")
    await run(folder, "go", "build", "-o", "export", ".")
    return ("./export",)


async def java(folder: Path, text: str) -> tuple[str, ...]:
    needs("mvn", "javac")
    (folder / "Export.java").write_text(text)
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>example</groupId><artifactId>export</artifactId><version>1</version>"
        "<dependencies><dependency><groupId>redis.clients</groupId><artifactId>jedis</artifactId>"
        f"<version>{JEDIS}</version></dependency></dependencies></project>"
    )
    if not (folder / "jars").exists():
        await run(
            folder, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"
        )
    return ("java", "-cp", "jars/*", "Export.java")


async def ruby(folder: Path, text: str) -> tuple[str, ...]:
    needs("ruby")
    if "redis" not in await run(folder, "gem", "list", "--no-details", "redis"):
        pytest.skip("no gem redis here (Debian: apt-get install ruby-redis)")
    (folder / "export.rb").write_text(text)
    return ("ruby", "export.rb")


async def php(folder: Path, text: str) -> tuple[str, ...]:
    needs("php")
    if "redis" not in (await run(folder, "php", "-m")).split():
        pytest.skip("no phpredis here (Debian: apt-get install php-redis)")
    (folder / "export.php").write_text(text)
    return ("php", "export.php")


LANGUAGES = {one.__name__: one for one in (shell, node, go, java, ruby, php)}


def test_every_recipe_has_a_test() -> None:
    assert recipes().keys() == LANGUAGES.keys()


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_recipe(language: str, redis_server: Server, backend: Backend) -> None:
    folder = CACHE / "recipes" / language
    folder.mkdir(parents=True, exist_ok=True)
    command = await LANGUAGES[language](folder, recipes()[language])
    where = {"REDIS_URL": redis_server.url, "OPERATION_ID": "42"}
    await run(folder, *command, **where)
    entries = await written(backend)
    assert steps(entries) == ["operation_started", "operation_completed"]
    state = FoldedState()
    for number, one in enumerate(entries[:-1], start=1):
        frame = {"id": f"{number}-0", "type": one.type, "data": one.data}
        state = fold(state, frame).state
    assert (state.title, state.status, state.progress) == ("Export", "running", 1.0)
    assert 0 < await backend.client.ttl(PREFIX + "42") <= 86_400

    await backend.client.set(f"{{{PREFIX}43}}:cancel", "1")
    await run(folder, *command, **(where | {"OPERATION_ID": "43"}))
    assert steps(await written(backend, "43")) == ["operation_started", "operation_cancelled"]
