"""The Lua scripts, loaded from `scripts/*.lua`; each is the shared prelude with its own body behind
it.

`EVALSHA` is what is sent; after a flush or on a new primary the server says NOSCRIPT, then `EVAL`
loads the text again.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple


class Script(NamedTuple):
    """A script's text and the SHA-1 by which Redis knows it."""

    text: str
    sha: str


def _load(name: str) -> Script:
    folder = resources.files("tidegate.redis").joinpath("scripts")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    prelude = folder.joinpath("prelude.lua").read_text("utf-8")
    text = f"{shebang}\n{prelude}\n{body}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _load_with(prelude: str | None, name: str) -> Script:
    """A script that has nothing to do with streams, with a prelude of its own kind or none."""
    folder = resources.files("tidegate.redis").joinpath("scripts")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    before = "" if prelude is None else folder.joinpath(f"{prelude}.lua").read_text("utf-8")
    text = f"{shebang}\n{before}\n{body}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


DISPATCH = _load("dispatch")
ATTACH = _load("attach")
READ = _load("read")
LOCATE = _load("locate")
PUBLISH = _load("publish")
POD_RENEW = _load_with(None, "pod_renew")
POD_LIST = _load_with(None, "pod_list")
SLOT_TAKE = _load_with("slot_prelude", "slot_take")
SLOT_SYNC = _load_with("slot_prelude", "slot_sync")
