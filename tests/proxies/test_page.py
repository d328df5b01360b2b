"""docs/proxies.md shows the files that the tests run, as they are.

`python -m tests.proxies.test_page` writes them into the page.
"""

from __future__ import annotations

import re

from tests.proxies.programs import PROXIES
from tests.proxies.site import FOLDER, PAGE, shown

_KINDS = {".conf": "nginx", ".cfg": "haproxy", ".yaml": "yaml"}
_SHOWN = re.compile(
    r"^<!-- (?P<name>[\w.-]+) -->\n(?:\n```\w*\n.*?^```\n)?", re.DOTALL | re.MULTILINE
)


def renewed(page: str) -> str:
    """The page with the files of now."""
    return _SHOWN.sub(_block, page)


def _block(found: re.Match[str]) -> str:
    name = found["name"]
    kind = _KINDS.get(name[name.rfind(".") :], "caddy")
    return f"<!-- {name} -->\n\n```{kind}\n{shown(name)}```\n"


def test_the_page_shows_each_file_once_as_it_is() -> None:
    page = PAGE.read_text("utf-8")
    names = [found["name"] for found in _SHOWN.finditer(page)]

    assert page == renewed(page)
    assert names == [name for proxy in PROXIES for name in proxy.shows]
    assert sorted(names) == sorted(path.name for path in FOLDER.iterdir())


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
