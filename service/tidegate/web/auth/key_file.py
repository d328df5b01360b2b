"""Public keys from a PEM file that may be replaced while the gateway runs.

Looks at the file when a token is checked, at most once a second, and reads it again when its time,
size or inode is another (a mounted Kubernetes secret is exchanged by a link, which changes the
inode). A new content that cannot be used, or a file that is gone, leaves the old keys in force and
is logged once; at the start it is an error.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from tidegate.model.errors import SettingsError
from tidegate.web.auth.keys import KeyUnusable, VerifyingKey, pem_keys

CHECK_INTERVAL_S = 1.0
FILE_MAX_BYTES = 262_144

log = structlog.get_logger(__name__)


class KeyFile:
    """A `KeySource`; `clock` is monotonic.

    Raises:
        SettingsError: the file cannot be used at the start.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._checked_at = clock()
        try:
            self._seen: object = self._look()
            self._keys = self._read()
        except (OSError, KeyUnusable) as error:
            raise SettingsError((f"auth.key_file: {path} {_words(error)}",)) from None

    async def find(self, kid: str | None) -> Sequence[VerifyingKey]:  # noqa: ARG002 - the port's
        """All keys of the file: PEM has no key ids, whatever the token says."""
        now = self._clock()
        if now - self._checked_at >= CHECK_INTERVAL_S:
            self._checked_at = now
            self._refresh()
        return self._keys

    async def run(self) -> None:
        """Nothing to do: the file is looked at when a token comes."""

    async def close(self) -> None:
        """Nothing is open."""

    def _refresh(self) -> None:
        try:
            seen: object = self._look()
        except OSError as error:
            seen = _words(error)
        if seen == self._seen:
            return
        # Looked at before it is read: a change in between is seen the next time.
        self._seen = seen
        try:
            self._keys = self._read()
        except (OSError, KeyUnusable) as error:
            log.error(
                "key file unusable; using the previous keys",
                file=str(self._path),
                why=_words(error),
            )
        else:
            log.info("key file loaded", file=str(self._path), keys=len(self._keys))

    def _look(self) -> tuple[int, int, int]:
        stat = self._path.stat()
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self) -> tuple[VerifyingKey, ...]:
        with self._path.open("rb") as file:
            document = file.read(FILE_MAX_BYTES + 1)
        if len(document) > FILE_MAX_BYTES:
            raise KeyUnusable(f"has more than {FILE_MAX_BYTES} bytes")
        return pem_keys(document)


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"cannot be read: {error.strerror}"
    return str(error)
