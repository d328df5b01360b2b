"""nginx in front of one gateway, as a reverse proxy with a site's own habits.

| habit                | what the gateway's viewers meet                                     |
|----------------------|---------------------------------------------------------------------|
| `Sockets.DROPPED`    | nginx's default: `Upgrade` is not passed on                          |
| `Streams.REFUSED`    | event streams are answered 403, by the proxy itself                  |
| `Streams.HELD_BACK`  | answers are collected before they are sent on, whatever they ask for |

`reload` takes the configuration anew, as an administrator does; connections of before are closed.
"""

from __future__ import annotations

import os
import signal
import tempfile
from enum import Enum
from pathlib import Path
from typing import Self

from tests.harness.waiting import until
from tests.servers.ports import free_port, is_free
from tests.servers.process import Process, ProcessError


class Sockets(Enum):
    """What becomes of a WebSocket's handshake."""

    PASSED = (
        "proxy_http_version 1.1; "
        "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"
    )
    DROPPED = ""


class Streams(Enum):
    """What becomes of an event stream."""

    PASSED = ""
    REFUSED = "location /sse/ { return 403; }"
    #: Over HTTP/1.0, nginx's default: chunks would pass at once.
    HELD_BACK = "proxy_ignore_headers X-Accel-Buffering; proxy_buffer_size 1m; proxy_buffers 8 1m;"


class Nginx:
    """Use as an async context manager."""

    host = "127.0.0.1"

    def __init__(
        self,
        backend_port: int,
        sockets: Sockets = Sockets.PASSED,
        streams: Streams = Streams.PASSED,
    ) -> None:
        self.port = free_port()
        self._backend_port = backend_port
        self._directory = tempfile.TemporaryDirectory(prefix="tidegate-nginx-")
        self._folder = Path(self._directory.name)
        self._configuration = self._folder / "nginx.conf"
        self._log = self._folder / "nginx.log"
        self._configure(sockets, streams)
        self._process = Process(
            ["nginx", "-p", self._folder, "-c", self._configuration, "-e", self._log],
            log_file=self._log,
        )

    async def reload(
        self, sockets: Sockets = Sockets.PASSED, streams: Streams = Streams.PASSED
    ) -> None:
        """Returns when only workers with the new configuration are left."""
        self._configure(sockets, streams)
        before = self._workers()
        self._process.signal(signal.SIGHUP)

        def is_done() -> bool:
            now = self._workers()
            return bool(now) and now.isdisjoint(before)

        await until(is_done, self._process.log_tail)

    def _workers(self) -> set[str]:
        """Process ids. The master's children: it is the process that was started."""
        pid = self._process.pid
        return set(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def _configure(self, sockets: Sockets, streams: Streams) -> None:
        # Root's workers are another user's otherwise, who may not enter the folder.
        user = "user root;" if os.getuid() == 0 else ""
        folders = "\n".join(
            f"{name}_temp_path {self._folder / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        self._configuration.write_text(
            f"""
            daemon off;
            {user}
            worker_processes 1;
            worker_shutdown_timeout 100ms;
            pid {self._folder / "pid"};
            events {{}}
            http {{
                access_log off;
                {folders}
                server {{
                    listen {self.host}:{self.port};
                    proxy_set_header Host $http_host;
                    {sockets.value}
                    {streams.value}
                    location / {{ proxy_pass http://{self.host}:{self._backend_port}; }}
                }}
            }}
            """
        )

    async def __aenter__(self) -> Self:
        self._process.spawn()
        try:
            await until(self._listens, self._process.log_tail)
        except BaseException:
            self._close()
            raise
        return self

    def _listens(self) -> bool:
        if not self._process.running:
            raise ProcessError("nginx ended by itself", self._process)
        return not is_free(self.port)

    async def __aexit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        self._process.close()
        self._directory.cleanup()
