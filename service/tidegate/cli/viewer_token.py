"""The token with which a command watches: a flag, a variable, or a file that may be replaced."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tidegate.cli.console import REFUSED, fail

if TYPE_CHECKING:
    from tidegate.client.following import TokenSource

#: As long as a gateway accepts (`web.auth.credentials`), and what a header may hold.
TOKEN_MAX_BYTES = 8192
_TOKEN = re.compile(r"[!-~]{1,8192}", re.ASCII)


class TokenFileUnusable(Exception):
    """The file of --token-file is missing, or holds no token; the text names it."""


def viewer_token(token: str | None, file: Path | None) -> TokenSource | None:
    """Gives the token for each connection; None without one. Ends the command for a bad one.

    A file takes precedence over the variable, and is read again for each connection: where tokens
    are short-lived, something else renews it.
    """
    if file is not None:
        _read(file)

        async def from_file() -> str:
            return _read(file)

        return from_file
    if token is None or not token.strip():
        return None
    text = token.strip()
    if _TOKEN.fullmatch(text) is None:
        fail(f"--token must be printable ASCII, at most {TOKEN_MAX_BYTES} bytes", REFUSED)

    async def given() -> str:
        return text

    return given


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            text = stream.read(TOKEN_MAX_BYTES + 2).decode("ascii", errors="replace").strip()
    except OSError as error:
        raise TokenFileUnusable(f"--token-file: {file} cannot be read: {error.strerror}") from None
    if _TOKEN.fullmatch(text) is None:
        raise TokenFileUnusable(
            f"--token-file: {file} must hold one token of at most {TOKEN_MAX_BYTES} bytes"
        )
    return text
