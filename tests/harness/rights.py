"""The ACL lines of the documentation, as they stand there."""

from __future__ import annotations

from pathlib import Path

_DOCS = Path(__file__).parents[2] / "docs"


def documented_rights(user: str, page: str = "protocol.md") -> list[str]:
    """What follows `ACL SETUSER <user> on >...` on the page."""
    text = (_DOCS / page).read_text("utf-8")
    _, found, rest = text.partition(f"ACL SETUSER {user} on >... ")
    assert found, f"{page} does not say what {user} needs"
    return rest.partition("```")[0].split()
