"""What passes a device of this machine with an address of the lab: to show that nothing does.

A raw socket sees each packet as it comes and goes; the kernel keeps those that nobody has read yet.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

ETH_P_ALL = 3
IPV4, IPV6 = 0x0800, 0x86DD
HEADER_BYTES = 14
BUFFER_BYTES = 64 << 20

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Packet(NamedTuple):
    """From and to whom."""

    source: Address
    destination: Address


class Sniffer:
    """Inside the `with` everything on this device is kept; `seen` takes it."""

    def __init__(self, device: str, networks: Sequence[Network]) -> None:
        self._device = device
        self._networks = networks

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((self._device, ETH_P_ALL))
        self._socket.settimeout(0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def seen(self) -> list[Packet]:
        """Packets since the last look with an address of one of the networks."""
        found: list[Packet] = []
        while True:
            try:
                frame = self._socket.recv(256)
            except BlockingIOError:
                return found
            packet = _packet(frame)
            if packet is not None and any(
                address in network for network in self._networks for address in packet
            ):
                found.append(packet)


def _packet(frame: bytes) -> Packet | None:
    kind, body = int.from_bytes(frame[12:HEADER_BYTES]), frame[HEADER_BYTES:]
    if kind == IPV4:
        return Packet(ipaddress.IPv4Address(body[12:16]), ipaddress.IPv4Address(body[16:20]))
    if kind == IPV6:
        return Packet(ipaddress.IPv6Address(body[8:24]), ipaddress.IPv6Address(body[24:40]))
    return None


def devices_out() -> set[str]:
    """Through which this machine would send what it knows no better way for."""
    found = set()
    for family in ("-4", "-6"):
        words = ("ip", "-json", family, "route", "show", "default")
        told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        found |= {route["dev"] for route in json.loads(told or "[]") if "dev" in route}
    return found
