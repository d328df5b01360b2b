"""The commands that `helm install` prints, given to a shell as they stand.

Only two things are other than on a person's terminal: the port on this machine is a free one, and
the operation has a name of its own.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from contextlib import suppress
from typing import NamedTuple

from tests.cluster.kube import Cluster
from tests.cluster.patience import PATIENCE_S
from tests.cluster.release import NAME
from tests.servers.ports import free_port


class Shown(NamedTuple):
    """The commands of step 2, and what they wrote."""

    command: str
    seen: str


def steps(notes: str) -> dict[str, str]:
    """The commands by the number of their step."""
    found: dict[str, list[str]] = {}
    step = ""
    for line in notes.splitlines():
        if match := re.match(r"(\d)\. ", line):
            step = match[1]
        elif step and line.startswith("     "):
            found.setdefault(step, []).append(line.strip())
    return {step: "\n".join(lines) for step, lines in found.items()}


async def follow(cluster: Cluster, operation: str) -> Shown:
    """Watch as step 2 says; when something is seen, publish as step 3 says, until the end."""
    port = free_port()
    commands = {
        step: text.replace("8080:", f"{port}:").replace(":8080/", f":{port}/")
        for step, text in steps(await cluster.helm("get", "notes", NAME)).items()
    }
    commands = {step: re.sub(r"\bhello\b", operation, text) for step, text in commands.items()}
    watching = await asyncio.create_subprocess_exec(
        *("bash", "-uc", commands["2"]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=cluster.env,
        start_new_session=True,
    )
    assert watching.stdout is not None
    seen = b""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while operation.encode() not in seen:
                more = await watching.stdout.read(4096)
                assert more, f"it ended before it began: {seen.decode()}"
                seen += more
            publishing = await asyncio.create_subprocess_exec(
                *("bash", "-euc", commands["3"]), env=cluster.env
            )
            assert await publishing.wait() == 0
            while b"completed" not in seen:
                more = await watching.stdout.read(4096)
                assert more, f"it ended too soon: {seen.decode()}"
                seen += more
    except TimeoutError:
        raise TimeoutError(f"not within {PATIENCE_S:g} s; seen: {seen.decode()}") from None
    finally:
        # With the port-forward in its background. All of them may have come to their end meanwhile.
        with suppress(ProcessLookupError):
            os.killpg(watching.pid, signal.SIGTERM)
        # To the end of what they write, which is that of the last of them: else a pipe stays open.
        async with asyncio.timeout(PATIENCE_S):
            await watching.communicate()
    return Shown(commands["2"], seen.decode())
