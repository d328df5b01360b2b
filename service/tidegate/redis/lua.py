"""The Lua scripts, loaded from `scripts/*.lua`; each has what it shares with others in front of
its own body. And how redis-py runs them, one or many.

`EVALSHA` is what is sent; after a flush or on a new primary the server says NOSCRIPT, then `EVAL`
loads the text again. The connection with subscriptions is not redis-py's: see `dispatcher`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

Argument = bytes | str | int | float
Command = tuple[Argument, ...]


class Script(NamedTuple):
    """A script's text and the SHA-1 by which Redis knows it."""

    text: str
    sha: str


def load(
    name: str, *before: str, package: str = "tidegate.redis", first: tuple[str, ...] = ()
) -> Script:
    """The script `name` of a package's folder `scripts`, with these files of it in front.

    `first` are texts of files of another package, in front of them all.
    """
    folder = resources.files(package).joinpath("scripts")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    shared = [folder.joinpath(f"{one}.lua").read_text("utf-8") for one in before]
    text = "\n".join([shebang, *first, *shared, body])
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


#: How an entry that is too large is cut, for others who carry entries.
CUTTING = resources.files("tidegate.redis").joinpath("scripts", "cutting.lua").read_text("utf-8")
DISPATCH = load("dispatch", "common", "cutting", "dispatching")
ATTACH = load("attach", "common", "cutting", "dispatching", "reading_whole")
DISARM = load("disarm")
READ = load("read", "common", "cutting", "reading")
READ_WHOLE = load("read_whole", "common", "cutting", "reading_whole")
NEWEST = load("newest", "common", "cutting", "reading")
LOCATE = load("locate", "common")
PUBLISH = load("publish", "common", "cutting", "dispatching", "spreading")
CANCEL = load("cancel", "common", "cutting", "dispatching", "spreading", "asking")
ASKED = load("asked", "common", "asking")
POD_RENEW = load("pod_renew")
POD_LIST = load("pod_list")
PART = load("part")
REVOKE = load("revoke")
RIGHTS = load("rights")
SLOT_TAKE = load("slot_take", "slot_prelude")
SLOT_SYNC = load("slot_sync", "slot_prelude")


async def run(
    client: Any, script: Script, keys: Sequence[Argument], args: Sequence[Argument]
) -> Any:
    """Run one script. Raises what redis-py raises."""
    try:
        return await client.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return await client.eval(script.text, len(keys), *keys, *args)


def run_blocking(
    client: Any, script: Script, keys: Sequence[Argument], args: Sequence[Argument]
) -> Any:
    """The same without an event loop."""
    try:
        return client.evalsha(script.sha, len(keys), *keys, *args)
    except NoScriptError:
        return client.eval(script.text, len(keys), *keys, *args)


def call(script: Script, key: Argument, *args: Argument) -> Command:
    """A script on its one key as a command for `run_together`."""
    return ("EVALSHA", script.sha, 1, key, *args)


async def run_together(
    execute: Callable[[Sequence[Command]], Awaitable[list[Any]]],
    commands: Sequence[Command],
    scripts: Sequence[Script | None],
) -> list[Any]:
    """The replies of commands that go together, errors among them; `scripts` are those of `call`.

    Only what the server refused with NOSCRIPT is sent twice.
    """
    replies = await execute(commands)
    unknown = [
        (i, script)
        for i, script in enumerate(scripts)
        if script is not None and isinstance(replies[i], NoScriptError)
    ]
    if unknown:
        again = await execute([("EVAL", one.text, *commands[i][2:]) for i, one in unknown])
        for (i, _), reply in zip(unknown, again, strict=True):
            replies[i] = reply
    return replies
