"""An OpenTelemetry collector for tests: a real OTLP/HTTP endpoint that decodes what it is sent."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

TIMEOUT_S = 15.0


class Seen(NamedTuple):
    """A span as it arrived; ids are hexadecimal, `parent` is empty for a root."""

    name: str
    trace: str
    id: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    links: frozenset[tuple[str, str]]
    events: tuple[str, ...]
    #: `service.instance.id`: the replica.
    pod: str


class Collector:
    """Use as a context manager. `status` is what it answers."""

    def __init__(self, port: int = 0, status: int = 200) -> None:
        self.status = status
        self.spans: list[Seen] = []
        self.raw: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.hold = threading.Event()
        self.hold.set()
        self._news = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.hold.wait()
                if collector.status == 200:
                    collector._take(body, dict(self.headers))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(collector.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Not to the terminal."""

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        """Nobody listens any more."""
        self.hold.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def named(self, name: str, pod: str = "") -> list[Seen]:
        """What has come of this name, of one replica or of all."""
        with self._news:
            return [s for s in self.spans if s.name == name and pod in ("", s.pod)]

    def wait(self, name: str, count: int = 1, pod: str = "") -> list[Seen]:
        """Blocks until so many have come: use `asyncio.to_thread`."""
        with self._news:
            self._news.wait_for(lambda: len(self._named(name, pod)) >= count, TIMEOUT_S)
            found = self._named(name, pod)
        assert len(found) >= count, f"{len(found)} of {count} {name}; came: {self.spans}"
        return found

    def _named(self, name: str, pod: str) -> list[Seen]:
        return [s for s in self.spans if s.name == name and pod in ("", s.pod)]

    def _take(self, body: bytes, headers: dict[str, str]) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        with self._news:
            self.raw.append(body)
            self.headers.append({name.lower(): value for name, value in headers.items()})
            for group in request.resource_spans:
                resource = _plain(group.resource.attributes)
                for scope in group.scope_spans:
                    for span in scope.spans:
                        self.spans.append(
                            Seen(
                                span.name,
                                span.trace_id.hex(),
                                span.span_id.hex(),
                                span.parent_span_id.hex(),
                                span.start_time_unix_nano,
                                span.end_time_unix_nano,
                                _plain(span.attributes),
                                frozenset((k.trace_id.hex(), k.span_id.hex()) for k in span.links),
                                tuple(event.name for event in span.events),
                                str(resource["service.instance.id"]),
                            )
                        )
            self._news.notify_all()


def _plain(attributes: Any) -> dict[str, Any]:
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}
