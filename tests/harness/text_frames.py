"""Joined WebSocket text frames of a server, taken apart by a reader that knows nothing else."""

from __future__ import annotations


def split_texts(wire: bytes) -> list[bytes]:
    """The payloads."""
    texts = []
    at = 0
    while at < len(wire):
        assert wire[at] == 0x81, "a final text frame"
        size = wire[at + 1]
        at += 2
        if size > 125:
            width = 2 if size == 126 else 8
            size = int.from_bytes(wire[at : at + width], "big")
            at += width
        texts.append(wire[at : at + size])
        at += size
    assert at == len(wire), "cut off"
    return texts
