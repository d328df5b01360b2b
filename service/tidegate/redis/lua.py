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


def load(name: str, prelude: str | None, package: str = "tidegate.redis") -> Script:
    """The script `name` of a package's folder `scripts`, with a prelude of that folder or none."""
    folder = resources.files(package).joinpath("scripts")
    shebang, _, body = folder.joinpath(f"{name}.lua").read_text("utf-8").partition("\n")
    before = "" if prelude is None else folder.joinpath(f"{prelude}.lua").read_text("utf-8")
    text = f"{shebang}\n{before}\n{body}"
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


DISPATCH = load("dispatch", "prelude")
ATTACH = load("attach", "prelude")
READ = load("read", "prelude")
LOCATE = load("locate", "prelude")
PUBLISH = load("publish", "prelude")
POD_RENEW = load("pod_renew", None)
POD_LIST = load("pod_list", None)
REVOKE = load("revoke", None)
SLOT_TAKE = load("slot_take", "slot_prelude")
SLOT_SYNC = load("slot_sync", "slot_prelude")
