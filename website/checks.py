"""What must hold of the built site beyond what `mkdocs build --strict` looks at.

Nothing is loaded from another host, every Markdown list became one, and links to other hosts are
well-formed (they are not followed).
"""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

#: Elements that load what they name, each with its attribute.
LOADING: Final = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "embed": "src",
    "object": "data",
}
#: Links of these kinds load nothing.
_QUIET_RELATIONS: Final = {"canonical", "next", "prev", "alternate"}


class _Page(HTMLParser):
    """Faults of one page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.faults: list[str] = []
        self.title = ""
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._open.append(tag)
        address = values.get(LOADING.get(tag, ""), "")
        if tag == "link" and values.get("rel") not in _QUIET_RELATIONS:
            address = values.get("href", "")
        if urlsplit(address).netloc:
            self.faults.append(f"loads {address} from another host")
        if tag == "a" and "href" in values:
            self.faults += link_faults(values["href"])

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:  # elements without an end
            pass

    def handle_data(self, data: str) -> None:
        if self._open[-1:] == ["title"]:
            self.title += data
        if self._open[-1:] == ["p"] and any(
            line.startswith(("* ", "- ", "| ", "```")) for line in data.splitlines()
        ):
            self.faults.append(f"a list, table or code block became text: {data.strip()[:60]!r}")


def link_faults(address: str) -> Iterator[str]:
    """Of a link to another host; links within the site are checked by MkDocs."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        yield f"the link {address!r} is malformed: {error}"
        return
    if not parts.scheme and not parts.netloc:
        return
    if parts.scheme not in ("https", "http", "mailto") or any(c.isspace() for c in address):
        yield f"the link {address!r} is no web address"
    elif parts.scheme != "mailto" and "." not in (parts.hostname or ""):
        yield f"the link {address!r} names no host"


def page_faults(text: str) -> list[str]:
    """Each once."""
    page = _Page()
    page.feed(text)
    page.close()
    return list(dict.fromkeys(page.faults)) + ([] if page.title.strip() else ["has no title"])


def site_faults(folder: Path) -> list[str]:
    """One line for each, with its page."""
    pages = sorted(folder.rglob("*.html"))
    found = [
        f"{path.relative_to(folder)}: {fault}"
        for path in pages
        for fault in page_faults(path.read_text("utf-8"))
    ]
    listed = (folder / "llms.txt").read_text("utf-8")
    for path in pages:
        place = path.relative_to(folder).parent.as_posix().removeprefix(".")
        if path.name == "index.html" and f"/{place}{'/' if place else ''})" not in listed:
            found.append(f"llms.txt: {place or 'the first page'} is missing")
    styles = [path for path in folder.rglob("*.css") if b"url(http" in path.read_bytes()]
    return found + [f"{path.relative_to(folder)}: loads from another host" for path in styles]
