"""Pings of all WebSockets, and the timeouts of their pongs, with one timer for all of them.

A timer for each socket would be five objects and half a kilobyte. Instead each socket is a member
of one set: the sockets that are due in the same slot of `SLOT_S`.

    start -> waits for its ping --ping--> waits for the pong --pong--> waits for its ping
                                               | timeout
                                               +--> keepalive_timeout

Invariant: a socket is in at most one slot of one schedule. `stop` removes it, so that a closed
connection is not referenced any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from tidegate.core.loop_clock import TICK_S

#: Short enough that the pings of a slot delay no entry: 50 pings, with 20,000 sockets and an
#: interval of 20 s.
SLOT_S = 0.05
#: The value of `Pinged.slot` while the socket is in no slot.
NOWHERE = -1


class Pinged(Protocol):
    """A socket. `slot` is used by `Keepalive` only."""

    slot: int

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop whose clock is used."""

    def send_ping(self, payload: bytes) -> bool:
        """Send a ping; False if the socket is closing."""

    def keepalive_timeout(self) -> None:
        """No pong has arrived in time: close the socket."""


class _Schedule:
    """Calls each socket `after_s` after it was added. Slots are created in the order in which they
    are due.
    """

    def __init__(self, after_s: float, call: Callable[[Pinged], None]) -> None:
        self._after_s = after_s
        self._call = call
        self._slots: dict[int, set[Pinged]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, socket: Pinged) -> int:
        """Add a socket, which is due after `after_s` or up to `SLOT_S` later; returns its slot."""
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
        """Remove a socket; whether it was in this slot."""
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
                except Exception as error:  # noqa: BLE001  # of one socket: the others are called
                    said = {"message": "keepalive of one socket failed", "exception": error}
                    loop.call_exception_handler(said)
        self._start_timer(loop)


class Keepalive:
    """Pings the sockets of one event loop."""

    def __init__(self, ping_interval_s: float, ping_timeout_s: float) -> None:
        self._turns = _Schedule(ping_interval_s, self._ping)
        self._pongs = _Schedule(ping_timeout_s, lambda socket: socket.keepalive_timeout())

    def start(self, socket: Pinged) -> None:
        """Ping this socket from now on, first after one interval."""
        self.stop(socket)
        socket.slot = self._turns.add(socket)

    def stop(self, socket: Pinged) -> None:
        """Do not ping this socket any more; may be called repeatedly."""
        slot = socket.slot
        if slot == NOWHERE:
            return
        socket.slot = NOWHERE
        if not self._turns.discard(slot, socket):
            self._pongs.discard(slot, socket)

    def answered(self, socket: Pinged, payload: bytes) -> bool:
        """Handle a pong. True if it answers the last ping; the next ping is then scheduled."""
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
            pass  # the pong will time out


def _payload(slot: int) -> bytes:
    """The payload of a ping, which distinguishes its pong from a late one."""
    return (slot & 0xFFFFFFFF).to_bytes(4)
