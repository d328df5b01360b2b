"""The publishers' process: paced by a schedule, over one raw socket; times itself.

It writes plain `XADD`s to Redis, with `--script` calls of the script that publishes, or with
`--api` Centrifugo's batches to its HTTP API.

Entry i is due at `start + i / rate`. What is due is sent at once, one write for all that is due,
never waiting for the replies of what came before; what could not be sent in time is sent as soon
as possible, so the number of entries never depends on how busy the machine was, and the lateness
is reported. The time in an entry is read right before its write.

Commands are JSON lines on standard input, answers JSON lines on standard output:
`fill` and `fill_large` (as fast as it goes: histories) and `publish` (paced).
"""

import argparse
import json
import re
import socket
import struct
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis

from bench.mark import (
    MAX_STREAM_ENTRIES,
    message_template,
    operation_name,
    publish_template,
    xadd_template,
    xadd_token,
)
from bench.procfs import quick_timers
from bench.stats import percentile
from tidegate.redis.link import pack
from tidegate.redis.lua import PUBLISH

# Replies wait in the socket's buffer; 64 are about 2 KB.
REPLIES_PER_READ: Final = 64
# Only beyond this many unanswered entries does Redis hold up the schedule: it is seconds behind.
MAX_UNANSWERED: Final = 50_000
SEND_BUFFER_BYTES: Final = 4 << 20
MAX_ENTRIES_PER_WRITE: Final = 64
# Its answer to more is above 2,048 bytes and comes in chunks, which nobody here reads.
MAX_ENTRIES_PER_BATCH: Final = 24
REPLY_TIMEOUT_S: Final = 30


class RedisWire:
    """Entries as `XADD`s."""

    max_entries = MAX_ENTRIES_PER_WRITE

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def template(self, operation: str) -> bytes:
        """One entry, for `% (sent_ns, number)`."""
        return xadd_template(operation)

    def together(self, entries: list[bytes]) -> tuple[bytes, int]:
        """What to write for these entries, and how many answers it gets."""
        return b"".join(entries), len(entries)

    def answers(self, data: bytes) -> int:
        """How many answers this completes. Raises `RuntimeError` when one is a refusal."""
        self._reader.feed(data)
        count = 0
        while (reply := self._reader.gets()) is not False:
            count += 1
            if isinstance(reply, Exception):
                raise RuntimeError(f"Redis refused an XADD: {reply}")
        return count


class ScriptWire(RedisWire):
    """Entries as calls of the script that appends and dispatches in one step."""

    def template(self, operation: str) -> bytes:
        return publish_template(operation)


class CentrifugoWire:
    """Entries as publications in `POST /api/batch` of Centrifugo 6."""

    max_entries = MAX_ENTRIES_PER_BATCH

    def __init__(self, url: str) -> None:
        host, _, self._path = url.removeprefix("http://").partition("/")
        self._host = host
        self._rest = b""

    def template(self, operation: str) -> bytes:
        return (
            b'{"publish":{"channel":"' + operation.encode() + b'","data":' + message_template()
        ) + b"}}"

    def together(self, entries: list[bytes]) -> tuple[bytes, int]:
        body = b'{"commands":[' + b",".join(entries) + b"]}"
        head = (
            f"POST /{self._path} HTTP/1.1\r\nHost: {self._host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body, 1

    def answers(self, data: bytes) -> int:
        data = self._rest + data
        at = count = 0
        while (end := data.find(b"\r\n\r\n", at)) >= 0:
            head = data[at:end].lower()
            found = re.search(rb"content-length: *(\d+)", head)
            if not head.startswith(b"http/1.1 200") or found is None:
                raise RuntimeError(f"the API refused a batch: {data[at : at + 300]!r}")
            stop = end + 4 + int(found[1])
            if stop > len(data):
                break
            if b'"error"' in data[end:stop]:
                raise RuntimeError(f"the API refused an entry: {data[end : end + 300]!r}")
            at, count = stop, count + 1
        self._rest = data[at:]
        return count


class Publisher:
    """One connection to where entries go, and the next number of each operation."""

    def __init__(self, address: tuple[str, int], wire: RedisWire | CentrifugoWire) -> None:
        self._wire = wire
        self._sock = socket.create_connection(address, timeout=REPLY_TIMEOUT_S)
        # The kernel's time-outs, not Python's: with those, a read that must not wait would wait.
        self._sock.settimeout(None)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", REPLY_TIMEOUT_S, 0))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._templates: list[bytes] = []
        self._next: list[int] = []
        self._unanswered = 0

    def close(self) -> None:
        self._sock.close()

    def load(self, script: str) -> None:
        """Make it known to Redis."""
        self._sock.sendall(pack("SCRIPT", "LOAD", script))
        self._unanswered += 1
        self._drain(0)

    def _know(self, operations: int) -> None:
        while len(self._templates) < operations:
            self._templates.append(self._wire.template(operation_name(len(self._templates))))
            self._next.append(0)

    def _command(self, index: int) -> bytes:
        number = self._next[index]
        self._next[index] = number + 1
        return self._templates[index] % (time.monotonic_ns(), number)

    def fill(self, *, operations: int, entries_each: int) -> dict[str, Any]:
        """Write a history of `entries_each` to each operation, as fast as Redis takes it."""
        self._know(operations)
        for index in range(operations):
            for first in range(0, entries_each, 500):
                batch = min(500, entries_each - first)
                self._send([self._command(index) for _ in range(batch)])
                self._drain(0)
        return {"sent": operations * entries_each}

    def fill_large(self, *, names: list[str], entries: int, pad_bytes: int) -> dict[str, Any]:
        """Write so many entries, all of them kept, to each of these operations, which are no other
        command's.
        """
        for name in names:
            template = xadd_template(name, pad_bytes, max_entries=max(entries, MAX_STREAM_ENTRIES))
            for number in range(entries):
                self._send([template % (time.monotonic_ns(), number)])
                self._drain(MAX_UNANSWERED)
        self._drain(0)
        return {"sent": len(names) * entries}

    def fill_tokens(self, *, name: str, tokens: int) -> dict[str, Any]:
        """Write a text, token by token, to an operation which is no other command's."""
        for number in range(tokens):
            self._send([xadd_token(name, number)])
            self._drain(MAX_UNANSWERED)
        self._drain(0)
        return {"sent": tokens}

    def publish(self, *, operations: int, entries: int, per_second: float) -> dict[str, Any]:
        """Write `entries` to the operations in turn, paced. Returns counts and own lateness."""
        self._know(operations)
        gap_ns = 1e9 / per_second
        late_ns = array("q", bytes(8 * entries))
        start = time.monotonic_ns() + 1_000_000
        cpu = time.process_time_ns()
        sent = 0
        while sent < entries:
            now = time.monotonic_ns()
            ahead = start + int(sent * gap_ns) - now
            if ahead > 0:
                time.sleep(ahead / 1e9)
                continue
            due = min(entries, int((now - start) / gap_ns) + 1, sent + self._wire.max_entries)
            due = max(due, sent + 1)
            for i in range(sent, due):
                late_ns[i] = now - start - int(i * gap_ns)
            self._send([self._command(i % operations) for i in range(sent, due)])
            sent = due
            if self._unanswered > MAX_UNANSWERED:
                self._drain(MAX_UNANSWERED)
            elif self._unanswered > REPLIES_PER_READ:
                self._take(socket.MSG_DONTWAIT)
        self._drain(0)
        late = sorted(late_ns)
        return {
            "sent": sent,
            "seconds": (time.monotonic_ns() - start) / 1e9,
            "cpu_s": (time.process_time_ns() - cpu) / 1e9,
            "late_p50_ms": percentile(late, 50) / 1e6,
            "late_p99_ms": percentile(late, 99) / 1e6,
            "late_max_ms": late[-1] / 1e6,
        }

    def _send(self, entries: list[bytes]) -> None:
        data, count = self._wire.together(entries)
        self._sock.sendall(data)
        self._unanswered += count

    def _drain(self, leave: int) -> None:
        """Read replies until at most `leave` are outstanding."""
        while self._unanswered > leave:
            self._take(0)

    def _take(self, flags: int) -> None:
        """Read some replies; waits for them unless `flags` says not to."""
        try:
            data = self._sock.recv(65536, flags)
        except BlockingIOError:
            if flags:
                return
            raise RuntimeError(f"no answer in {REPLY_TIMEOUT_S} s") from None
        if not data:
            raise RuntimeError("the publisher's connection was closed")
        self._unanswered -= self._wire.answers(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis-port", type=int, required=True)
    parser.add_argument("--script", action="store_true", help="publish by the script")
    parser.add_argument("--api", default="", metavar="URL", help="Centrifugo's batch method")
    args = parser.parse_args()
    quick_timers()
    if args.api:
        place = urlsplit(args.api)
        address = (str(place.hostname), int(place.port or 80))
        publisher = Publisher(address, CentrifugoWire(args.api))
    else:
        wire = ScriptWire() if args.script else RedisWire()
        publisher = Publisher(("127.0.0.1", args.redis_port), wire)
        if args.script:
            publisher.load(PUBLISH.text)
    verbs: dict[str, Callable[..., dict[str, Any]]] = {
        "fill": publisher.fill,
        "fill_large": publisher.fill_large,
        "fill_tokens": publisher.fill_tokens,
        "publish": publisher.publish,
    }
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = verbs[command.pop("do")](**command)
        except (OSError, RuntimeError) as error:
            answer = {"error": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
