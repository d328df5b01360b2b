"""Loses or repeats chosen pushes between a Redis server and a client, and nothing else.

    fault = PushFault(b"smessage", lambda number: 0 if number % 3 == 0 else 1)
    proxy.down.filter = fault.on_connection

`fate` gets the number of the push (from 0, over all connections) and answers how many copies go on:
0 loses it, 2 repeats it. `invalidate` instead of `smessage` loses doorbells. Everything else passes
unchanged, so that framing stays whole: only what the protocol may lose is lost.
"""

from collections.abc import Callable

_LINE = b"+-:_#,("
_BULK = b"$=!"
_ONE_EACH = b"*~>"
_TWO_EACH = b"%|"


class PushFault:
    """One rule with its counts, for all connections of a proxy."""

    def __init__(self, kind: bytes, fate: Callable[[int], int]) -> None:
        self._kind = kind
        self._fate = fate
        self.seen = 0
        self.lost = 0
        self.repeated = 0

    def on_connection(self) -> Callable[[bytes], bytes]:
        buffer = bytearray()

        def filtered(data: bytes) -> bytes:
            buffer.extend(data)
            start, passed = 0, []
            while (end := frame_end(buffer, start)) is not None:
                frame = bytes(buffer[start:end])
                passed.append(frame * (self._copies() if push_kind(frame) == self._kind else 1))
                start = end
            del buffer[:start]
            return b"".join(passed)

        return filtered

    def _copies(self) -> int:
        copies = self._fate(self.seen)
        self.seen += 1
        self.lost += copies == 0
        self.repeated += copies > 1
        return copies


def push_kind(frame: bytes) -> bytes | None:
    """`smessage` of a RESP3 push, or of the array that stands for one in RESP2."""
    if frame[:1] not in (b">", b"*"):
        return None
    parts = frame.split(b"\r\n", 3)
    return parts[2] if len(parts) == 4 and parts[1][:1] == b"$" else None


def frame_end(buffer: bytes | bytearray, start: int) -> int | None:
    """Where the RESP value that begins at `start` ends; None when it is not complete yet."""
    values, position = 1, start
    while values:
        line_end = buffer.find(b"\r\n", position)
        if line_end < 0:
            return None
        kind, number = buffer[position], buffer[position + 1 : line_end]
        position, values = line_end + 2, values - 1
        if kind in _LINE:
            continue
        count = max(int(number), 0)  # -1 is null
        if kind in _BULK:
            position += count + 2 if int(number) >= 0 else 0
        elif kind in _ONE_EACH:
            values += count
        elif kind in _TWO_EACH:
            values += 2 * count + (kind == ord("|"))  # attributes stand before their value
        else:
            raise ValueError(f"not RESP: {bytes(buffer[position : position + 40])!r}")
    return position if position <= len(buffer) else None
