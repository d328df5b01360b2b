"""What ``tidegate run`` says: the greeting with ready lines to copy, and what its children say."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tidegate.cli.console import stdout
from tidegate.model.settings import RedisSettings, redact_url

EXAMPLE = "hello"
DATA = '{"progress":0.5,"message":"half way"}'


class Shown(NamedTuple):
    """A replica as the greeting shows it."""

    name: str
    pid: int
    url: str
    admin_port: int


def say(text: str, style: str | None = None) -> None:
    # The terminal may be gone already; the children must be ended all the same.
    with contextlib.suppress(OSError):
        stdout().print(text, style=style, markup=False, soft_wrap=True)


def say_line(name: str, line: str) -> None:
    """What a child said. Its colours stay on a terminal, and its escape codes nowhere else."""
    from rich.text import Text

    with contextlib.suppress(OSError):
        stdout().print(Text(f"{name} | ", "dim").append_text(Text.from_ansi(line)), soft_wrap=True)


def greeting(replicas: Sequence[Shown], redis_url: str, prefix: str) -> Iterator[str]:
    """Addresses, and three lines to copy: what to do next."""
    tidegate = tidegate_command()
    urls = " ".join(f"--url {r.url.replace('http', 'ws', 1)}" for r in replicas)
    last = replicas[-1]
    yield ""
    for replica in replicas:
        admin = f"admin http://127.0.0.1:{replica.admin_port}"
        yield f"{replica.name}   {replica.url}   {admin}   pid {replica.pid}"
    yield f"redis       {redact_url(redis_url)}"
    yield ""
    yield "Next, in another terminal:"
    yield f"  watch     {tidegate} watch {EXAMPLE} {urls}"
    yield f"  publish   {publishing_line(tidegate, redis_url, prefix)}"
    yield f"  kill      kill -9 {last.pid}   (its viewers continue on another replica)"
    yield ""
    yield f"The page with the demo's operations: {replicas[0].url}/"
    yield "Ctrl-C ends everything."


def publishing_line(tidegate: str, redis_url: str, prefix: str) -> str:
    """A plain XADD, as any backend does, where a client for it is installed; else our command."""
    xadd = xadd_line(redis_url, prefix)
    return xadd or publish_line(tidegate, redis_url, prefix)


def xadd_line(redis_url: str, prefix: str) -> str:
    """The client's command line, or nothing: it is not installed, or needs more than an address."""
    client = next((c for c in ("valkey-cli", "redis-cli") if shutil.which(c)), None)
    if client is None:
        return ""
    shown = redact_url(redis_url)
    parts = urlsplit(shown)
    if parts.scheme == "redis" and parts.hostname == "127.0.0.1" and "@" not in shown:
        target = ["-p", str(parts.port or 6379)]
    elif parts.scheme in ("redis", "rediss"):
        target = ["-u", shown]
    elif parts.scheme == "unix":
        target = ["-s", parts.path]
    else:
        return ""
    message = f'{{"type":"progress","data":{DATA}}}'
    return shlex.join([client, *target, "XADD", prefix + EXAMPLE, "*", "message", message])


def publish_line(tidegate: str, redis_url: str, prefix: str) -> str:
    arguments = ["publish", EXAMPLE, DATA, "--redis", redact_url(redis_url)]
    if prefix != RedisSettings.model_fields["key_prefix"].default:
        arguments += ["--prefix", prefix]
    return f"{tidegate} {shlex.join(arguments)}"


def tidegate_command() -> str:
    """How this command was called, so that the lines can be copied as they are."""
    called = Path(sys.argv[0])
    if called.name != "tidegate":
        return f"{shlex.quote(sys.executable)} -m tidegate.cli.main"
    found = shutil.which("tidegate")
    if found is not None and Path(found).resolve() == called.resolve():
        return "tidegate"
    with contextlib.suppress(ValueError):
        return shlex.quote(str(called.absolute().relative_to(Path.cwd())))
    return shlex.quote(str(called.absolute()))
