"""The page of `tidegate run` has the browser client of this tree in it, not an older one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidegate.web.demo.page import page_files

pytestmark = [pytest.mark.real("node"), pytest.mark.full, pytest.mark.xdist_group("js")]


def test_the_client_in_the_page_is_current(package: Path) -> None:
    built = (package / "dist" / "element.min.js").read_bytes()
    assert page_files().by_name["tidegate.js"].body == built, (
        "run `make page` and commit what it writes"
    )
