"""Runs of entries that append to a text, each as one frame: for viewers that were not there when
they came.

`join` works on frames of entries, and joins those whose `data` is an object with nothing but a text
`text`. What it puts together are the characters between the quotes, as the publisher escaped them,
so that every reader decodes the same text as from the single frames. Half of a surrogate pair is
never put before the other half: some languages would read two characters as one.

Invariant: a joined frame stands for a row of entries without any between them, and a rest of it,
behind any of these, is what `join` makes of that rest.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from tidegate.model.frames import Frame, FrameKind
from tidegate.model.ids import ZERO, StreamId

#: Text in one joined frame, as it is written in JSON: what a viewer is sent before its socket is
#: asked whether it can take more.
JOINED_MAX_BYTES = 65_536

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
#: Of a frame that `entry_frame` made, with a timestamp that is a text or a number. The frame is
#: valid JSON, so what stands between quotes need not be checked. Linear: no part gives back what it
#: has taken.
_HEAD = (
    rb'\{"id":"[0-9-]++(","operation":"[^"]*+","timestamp":)(%b|[^"\[\]{},]++)(,"type":%b(?:,"fold":%b)?+),"data":'
    % (_STRING, _STRING, _STRING)
)
_APPENDS = re.compile(
    _HEAD + rb'\{[ \t\r\n]*+"text"[ \t\r\n]*+:[ \t\r\n]*+(%b)[ \t\r\n]*+\}\}' % _STRING, re.DOTALL
)
_JOINED = re.compile(_HEAD + rb'\{"text":(%b)\},"joined":[0-9]++\}' % _STRING, re.DOTALL)
# An escaped backslash may stand in front of either, which then is no escape: two runs instead of
# one do no harm.
_ENDS_IN_HALF = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_BEGINS_WITH_HALF = re.compile(rb"\\u[dD][c-fC-F]")


class JoinedFrame(Frame):
    """Several entries as one frame; `id` is that of the last."""

    __slots__ = ("ends", "head_bytes", "ids")

    def __init__(
        self, last: StreamId, payload: bytes, head_bytes: int, ids: array[int], ends: array[int]
    ) -> None:
        """
        Args:
            last: id of the last entry.
            payload: the JSON text.
            head_bytes: where the text begins in the payload.
            ids: of the entries, two numbers each.
            ends: where in the text each ends.
        """
        super().__init__(last, payload, FrameKind.APPEND)
        self.head_bytes = head_bytes
        self.ids = ids
        self.ends = ends

    @property
    def joined(self) -> int:
        """How many entries."""
        return len(self.ends)

    @property
    def text(self) -> bytes:
        """As in JSON, without quotes."""
        return self.payload[self.head_bytes : self.head_bytes + self.ends[-1]]

    @property
    def first(self) -> StreamId:
        return StreamId(self.ids[0], self.ids[1])

    def after(self, cursor: StreamId) -> Frame:
        """What of it lies above `cursor`, which is below its `id`."""
        ids = self.ids
        had = bisect_right(
            range(self.joined), cursor, key=lambda n: StreamId(ids[2 * n], ids[2 * n + 1])
        )
        if not had:
            return self
        start = self.ends[had - 1]
        ends = array("I", (end - start for end in self.ends[had:]))
        return _frame(
            self.id, self.payload[: self.head_bytes], ids[2 * had :], ends, self.text[start:]
        )


def entries_in(frame: Frame) -> int:
    """How many entries this frame stands for."""
    return len(frame.ends) if type(frame) is JoinedFrame else 1


def frames_after(frames: Sequence[Frame], cursor: StreamId) -> list[Frame]:
    """What of these lies above `cursor`."""
    start = bisect_right(frames, cursor, key=lambda frame: frame.id)
    found = list(frames[start:])
    if found and type(found[0]) is JoinedFrame:
        found[0] = found[0].after(cursor)
    return found


def ends_at(frames: Sequence[Frame], boundary: StreamId) -> int:
    """How many of these frames lie up to this position; one that stands for entries on both sides
    is not counted.
    """
    return bisect_right(frames, boundary, key=lambda frame: frame.id)


def is_across(frames: Sequence[Frame], boundary: StreamId) -> bool:
    """Whether one of these stands for entries on both sides of this position."""
    at = ends_at(frames, boundary)
    if at == len(frames):
        return False
    frame = frames[at]
    return type(frame) is JoinedFrame and frame.first <= boundary


def join(frames: Sequence[Frame], *, boundary: StreamId = ZERO) -> Sequence[Frame]:
    """The same entries in fewer frames; `frames` itself where none can be joined. No frame stands
    for entries on both sides of the boundary.

    May be given frames that are joined already, none of them across the boundary.
    """
    if frames and frames[0].id <= boundary < frames[-1].id:
        at = ends_at(frames, boundary)
        return [*join(frames[:at]), *join(frames[at:])]
    if sum(frame.kind is FrameKind.APPEND for frame in frames) < 2:
        return frames
    found: list[Frame] = []
    run = _Run()
    for frame in frames:
        part = _read(frame) if frame.kind is FrameKind.APPEND else None
        if part is None or not run.takes(part):
            run.flush(found)
        if part is None:
            found.append(frame)
        else:
            run.add(frame, part)
    run.flush(found)
    return found if len(found) < len(frames) else frames


class _Part(NamedTuple):
    """What is joined of a frame. `kind`: what all of a run have in common; `timestamp`: of its last
    entry.
    """

    kind: tuple[bytes, bytes]
    timestamp: bytes
    text: bytes


def _read(frame: Frame) -> _Part | None:
    """None where there is more in it than a text."""
    pattern = _JOINED if type(frame) is JoinedFrame else _APPENDS
    match = pattern.fullmatch(frame.payload)
    if match is None:
        return None
    operation, timestamp, type_, text = match.groups()
    return _Part((operation, type_), timestamp, text[1:-1])


class _Run:
    """Entries in a row that go into one frame."""

    def __init__(self) -> None:
        self._frames: list[Frame] = []
        self._parts: list[_Part] = []
        self._size = 0

    def takes(self, part: _Part) -> bool:
        """Whether this may come behind what is here."""
        if not self._parts:
            return True
        last = self._parts[-1]
        if part.kind != last.kind or self._size + len(part.text) > JOINED_MAX_BYTES:
            return False
        halves = _BEGINS_WITH_HALF.match(part.text) and _ENDS_IN_HALF.search(last.text[-6:])
        return not halves

    def add(self, frame: Frame, part: _Part) -> None:
        self._frames.append(frame)
        self._parts.append(part)
        self._size += len(part.text)

    def flush(self, found: list[Frame]) -> None:
        """One frame for all that is here; begin again."""
        if len(self._frames) == 1:
            found += self._frames
        elif self._frames:
            found.append(self._joined())
        self._frames, self._parts, self._size = [], [], 0

    def _joined(self) -> Frame:
        ids, ends = array("Q"), array("I")
        size = 0
        for frame, part in zip(self._frames, self._parts, strict=True):
            if type(frame) is JoinedFrame:
                ids += frame.ids
                ends.extend(size + end for end in frame.ends)
            else:
                ids.extend(frame.id)
                ends.append(size + len(part.text))
            size += len(part.text)
        last = self._parts[-1]
        last_id = self._frames[-1].id
        head = b'{"id":"%b%b%b%b,"data":{"text":"' % (
            str(last_id).encode(),
            last.kind[0],
            last.timestamp,
            last.kind[1],
        )
        return _frame(last_id, head, ids, ends, b"".join([part.text for part in self._parts]))


def _frame(last: StreamId, head: bytes, ids: array[int], ends: array[int], text: bytes) -> Frame:
    """One entry is a frame like any other."""
    count = len(ends)
    if count == 1:
        return Frame(last, b'%b%b"}}' % (head, text), FrameKind.APPEND)
    payload = b'%b%b"},"joined":%d}' % (head, text, count)
    return JoinedFrame(last, payload, len(head), ids, ends)
