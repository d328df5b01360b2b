"""Pages of the repository as pages of the site: where links lead there.

On GitHub a page of docs/ links to files beside docs/, and README.md links into docs/. On the site
the former lead to GitHub, and the latter to the page itself. A link to nothing is an error here,
because MkDocs would not see it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).parents[1]
SOURCE: Final = "https://github.com/tidegate/tidegate/blob/main"
#: Pages of the site that are files beside docs/.
OUTSIDE: Final[Mapping[str, str]] = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
}
#: Blocks and spans of code.
_CODE = re.compile(r"^```.*?^```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?P<head>\]\(|<img src=\")(?P<target>[^)\s\"]+)")


class BrokenLink(ValueError):
    """A link to a file that the repository does not have."""


def for_the_site(page: str, text: str) -> str:
    """The Markdown of a page of the site with its links changed.

    Args:
        page: name of the page on the site, such as `operator.md`.

    Raises:
        BrokenLink: with all of them.
    """
    source = PurePosixPath(OUTSIDE.get(page, f"docs/{page}"))
    broken: list[str] = []

    def changed(found: re.Match[str]) -> str:
        target = found["target"]
        if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
            return found[0]
        path, mark, anchor = target.partition("#")
        place = _normal(source.parent / path)
        if place is None or not (ROOT / place).exists():
            broken.append(f"{source}: {target}")
            return found[0]
        return found["head"] + _place_on_site(page, place) + mark + anchor

    result = []
    end = 0
    for code in _CODE.finditer(text):
        result += [_LINK.sub(changed, text[end : code.start()]), code[0]]
        end = code.end()
    result.append(_LINK.sub(changed, text[end:]))
    if broken:
        raise BrokenLink("; ".join(broken))
    return "".join(result)


def _normal(path: PurePosixPath) -> PurePosixPath | None:
    """Without `..`; None if it leaves the repository."""
    parts: list[str] = []
    for part in path.parts:
        if part != "..":
            parts.append(part)
        elif parts:
            parts.pop()
        else:
            return None
    return PurePosixPath(*parts)


def _place_on_site(page: str, place: PurePosixPath) -> str:
    """From this page: a page or a picture of the site, otherwise the file on GitHub."""
    name = str(place)
    for on_site, outside in OUTSIDE.items():
        if name == outside:
            return _relative(page, on_site)
    if place.parts[:1] == ("docs",) and place.suffix:
        return _relative(page, str(PurePosixPath(*place.parts[1:])))
    return f"{SOURCE}/{name}"


def _relative(page: str, target: str) -> str:
    return "../" * (len(PurePosixPath(page).parts) - 1) + target


def first_sentence(text: str) -> str:
    """What a page is about: the first sentence below its heading, without markup."""
    body = re.sub(r"<!--.*?-->", "", _FENCE.sub("", text), flags=re.DOTALL)
    for line in body.splitlines():
        if line.strip() and not line.startswith(("#", "|", "* ", "<", "!", "- ", ">")):
            plain = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "")
            return re.sub(r"\*\*([^*]+)\*\*", r"\1", plain).strip().rstrip(":")
    return ""
