"""What was read from a connection and is not parsed yet, given out piece by piece.

A piece never goes beyond the end of a head or of a body: heads, and bodies in chunks, end with an
empty line, others have a length. So whoever parses it may stop behind any request.
"""

from __future__ import annotations

#: At the most, where no length is known.
PIECE_BYTES = 4096
_EMPTY_LINE = b"\r\n\r\n"


class Pieces:
    """Of one connection."""

    __slots__ = ("_at", "_data", "_tail")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        #: The end of the piece before, for an empty line across two.
        self._tail = b""

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        return len(self._data) - self._at

    def add(self, data: bytes) -> None:
        """It was read."""
        self._data = self._data[self._at :] + data if self._data else data
        self._at = 0

    def clear(self) -> None:
        """Forget all of it."""
        self._data = b""
        self._at = 0

    def next(self, body_left: int) -> bytes:
        """The next piece; so much of it belongs to a body with a length."""
        data, at = self._data, self._at
        if body_left:
            end = min(at + body_left, len(data))
        else:
            window = self._tail + data[at : at + PIECE_BYTES]
            found = window.find(_EMPTY_LINE)
            if found < 0:
                end = at - len(self._tail) + len(window)
                self._tail = window[1 - len(_EMPTY_LINE) :]
            else:
                end = at - len(self._tail) + found + len(_EMPTY_LINE)
                self._tail = b""
        piece = data[at:end]
        if end == len(data):
            self.clear()
        else:
            self._at = end
        return piece
