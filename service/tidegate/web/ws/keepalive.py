"""When each WebSocket is pinged, and when it has waited too long for the pong: one timer for all.

A timer for each socket is five objects and half a kilobyte, which most sockets have for nothing
else. Here a socket is in one set: that of all that are due in the same slot of `SLOT_S`.

    start -> waits for its turn --ping--> waits for the pong --pong--> waits for its turn
                                               | too late
                                               +--> keepalive_timeout

Invariant: a socket is in at most one slot of one schedule; `stop` takes it out, so that nothing of
a closed connection stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tidegate.core.loop_clock import TICK_S

#: Few enough pings at a time that no entry waits for them: 50 with 20,000 sockets and 20 s.
SLOT_S = 0.05
#: In no slot.
NOWHERE = -1


class Pinged(Protocol):
    """A socket; `slot` is kept by its `Keepalive`."""

    slot: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Whose time counts."""

    def send_ping(self, payload: bytes) -> bool:
        """Ping it; False when it is closing."""

    def keepalive_timeout(self) -> None:
        """There was no pong in time."""


class _Schedule:
    """Who is due `after_s` from when it was added; slots are made in the order they fall due."""

    def __init__(self, after_s: float, call: Callable[[Pinged], None]) -> None:
        self._after_s = after_s
        self._call = call
        self._slots: dict[int, set[Pinged]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: Pinged) -> int:
        """Due after the time, or up to a slot later."""
        slot = int((socket.loop.time() + self._after_s) / SLOT_S) + 1
        together = self._slots.get(slot)
        if together is not None:
            together.add(socket)
        else:
            self._slots[slot] = {socket}
            if self._timer is None:
                self._start_timer(socket.loop)
        return slot

    def discard(self, slot: int, socket: Pinged) -> bool:
        """Whether it was there."""
        together = self._slots.get(slot)
        if together is None or socket not in together:
            return False
        together.remove(socket)
        if not together:
            del self._slots[slot]
            if not self._slots and self._timer is not None:
                self._timer.cancel()
                self._timer = None
        return True

    def _start_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        first = next(iter(self._slots), None)
        self._timer = None if first is None else loop.call_at(first * SLOT_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        until = loop.time() + TICK_S
        while (first := next(iter(self._slots), None)) is not None and first * SLOT_S <= until:
            for socket in self._slots.pop(first):
                socket.slot = NOWHERE
                try:
                    self._call(socket)
                except Exception as error:  # noqa: BLE001  # one socket's: all others have their turn
                    said = {"message": "keepalive of one socket failed", "exception": error}
                    loop.call_exception_handler(said)
        self._start_timer(loop)


class Keepalive:
    """All sockets of one event loop."""

    def __init__(self, ping_interval_s: float, ping_timeout_s: float) -> None:
        self._turns = _Schedule(ping_interval_s, self._ping)
        self._pongs = _Schedule(ping_timeout_s, lambda socket: socket.keepalive_timeout())

    def start(self, socket: Pinged) -> None:
        """It is pinged after the interval."""
        self.stop(socket)
        socket.slot = self._turns.add(socket)

    def stop(self, socket: Pinged) -> None:
        """Nothing is due any more; safe to call twice."""
        slot = socket.slot
        if slot == NOWHERE:
            return
        socket.slot = NOWHERE
        if not self._turns.discard(slot, socket):
            self._pongs.discard(slot, socket)

    def answered(self, socket: Pinged, payload: bytes) -> bool:
        """Whether this is the pong it waits for; then it has its next turn."""
        slot = socket.slot
        if payload != _payload(slot) or not self._pongs.discard(slot, socket):
            return False
        socket.slot = self._turns.add(socket)
        return True

    def _ping(self, socket: Pinged) -> None:
        slot = self._pongs.add(socket)
        socket.slot = slot
        try:
            if not socket.send_ping(_payload(slot)):
                self.stop(socket)
        except (OSError, RuntimeError):  # uvloop 0.23 raises RuntimeError for a closed transport
            pass  # it has no pong either


def _payload(slot: int) -> bytes:
    """Tells a late pong from the one that is waited for."""
    return (slot & 0xFFFFFFFF).to_bytes(4)
