"""nginx: any configuration, or in front of one gateway with a site's own habits.

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
from tests.servers.workers import replace_workers


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


class NginxServer:
    """One nginx. Use as an async context manager; `configure` before that and before `reload`."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="tidegate-nginx-")
        self._folder = Path(self._directory.name)
        self._configuration = self._folder / "nginx.conf"
        self._log = self._folder / "nginx.log"
        self.process = Process(
            ["nginx", "-p", self._folder, "-c", self._configuration, "-e", self._log],
            log_file=self._log,
        )

    def configure(self, http: str) -> None:
        """The text of the block `http`; it must listen on `port`."""
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
                {http}
            }}
            """
        )

    async def take_anew(self) -> None:
        """Returns when only workers with the present configuration are left."""
        await replace_workers(self.process, signal.SIGHUP)

    async def start(self) -> Self:
        self.process.spawn()
        try:
            await until(self._listens, self.process.log_tail)
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        self.process.close()
        self._directory.cleanup()

    def _listens(self) -> bool:
        if not self.process.running:
            raise ProcessError("nginx ended by itself", self.process)
        return not is_free(self.port)

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        self.close()


class Nginx(NginxServer):
    """In front of one gateway, with a site's habits."""

    def __init__(
        self,
        backend_port: int,
        sockets: Sockets = Sockets.PASSED,
        streams: Streams = Streams.PASSED,
    ) -> None:
        super().__init__()
        self._backend_port = backend_port
        self._take_on(sockets, streams)

    async def reload(
        self, sockets: Sockets = Sockets.PASSED, streams: Streams = Streams.PASSED
    ) -> None:
        """Returns when only workers with the new configuration are left."""
        self._take_on(sockets, streams)
        await self.take_anew()

    def _take_on(self, sockets: Sockets, streams: Streams) -> None:
        self.configure(
            f"""
            server {{
                listen {self.host}:{self.port};
                proxy_set_header Host $http_host;
                {sockets.value}
                {streams.value}
                location / {{ proxy_pass http://{self.host}:{self._backend_port}; }}
            }}
            """
        )
