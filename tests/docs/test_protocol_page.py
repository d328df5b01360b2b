"""docs/protocol.md carries the table of close codes as the code has it.

`python -m tests.docs.test_protocol_page` writes it anew.
"""

from __future__ import annotations

from pathlib import Path

from tidegate.model.close_codes import close_codes_table

PAGE = Path(__file__).parents[2] / "docs" / "protocol.md"
BEGIN = "<!-- close codes: made from tidegate.model.close_codes -->\n"
END = "<!-- end -->"


def renewed(page: str) -> str:
    """The page with the table that the code has now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{close_codes_table()}\n{END}{after}"


def test_the_close_codes_on_the_page_are_those_of_the_code() -> None:
    page = PAGE.read_text("utf-8")

    assert page == renewed(page)


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text("utf-8")), "utf-8")
