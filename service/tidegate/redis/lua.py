"""The Lua scripts, loaded from `scripts/*.lua`; each has what it shares with others in front of
its own body.

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
READ = load("read", "common", "cutting", "reading")
READ_WHOLE = load("read_whole", "common", "cutting", "reading_whole")
NEWEST = load("newest", "common", "cutting", "reading")
LOCATE = load("locate", "common")
PUBLISH = load("publish", "common", "cutting", "dispatching")
POD_RENEW = load("pod_renew")
POD_LIST = load("pod_list")
REVOKE = load("revoke")
RIGHTS = load("rights")
SLOT_TAKE = load("slot_take", "slot_prelude")
SLOT_SYNC = load("slot_sync", "slot_prelude")
