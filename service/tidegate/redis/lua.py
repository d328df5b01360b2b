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


DISPATCH = _load("dispatch")
ATTACH = _load("attach")
READ = _load("read")
LOCATE = _load("locate")
PUBLISH = _load("publish")
