"""Reverse proxies as real processes, each with its configuration of docs/proxies.

| proxy   | `reload` is                              | connections of before                    |
|---------|------------------------------------------|------------------------------------------|
| nginx   | SIGHUP                                   | closed after `worker_shutdown_timeout`   |
| HAProxy | SIGUSR2 to the master                    | closed after `hard-stop-after`           |
| Caddy   | `caddy reload`                           | WebSockets are closed at once            |
| Envoy   | a new process that takes the sockets over | closed after `--parent-shutdown-time-s`  |
| Traefik | the file of its provider is replaced     | kept                                     |

`reload` returns when the new configuration is in force and whatever served the old one has ended.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import ssl
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

import httpx
import pytest

from tests.faults.viewer import Address
from tests.harness.programs import ended
from tests.harness.waiting import until
from tests.proxies.site import PREFIX, Site, replaced, shown
from tests.servers import binaries
from tests.servers.nginx import NginxServer
from tests.servers.ports import free_port, is_free
from tests.servers.process import Process, ProcessError
from tests.servers.workers import replace_workers

HOST = "127.0.0.1"
RELOAD_TIMEOUT_S = 20


class FrontProxy(ABC):
    """One proxy. Use as an async context manager."""

    program: ClassVar[str]
    #: Of docs/proxies, in the page's order.
    shows: ClassVar[tuple[str, ...]]

    def __init__(self, site: Site) -> None:
        self.site = site

    @property
    @abstractmethod
    def port(self) -> int: ...

    @property
    @abstractmethod
    def process(self) -> Process: ...

    @property
    def url(self) -> str:
        """Of the gateway, as viewers know it."""
        return f"https://localhost:{self.port}{PREFIX}"

    @property
    def tls(self) -> ssl.SSLContext:
        """Made for each client: httpx sets in it which protocols are offered (ALPN), and a
        WebSocket over one that offers HTTP/2 would get HTTP/2.
        """
        return self.site.client_tls()

    @property
    def address(self) -> Address:
        return Address("localhost", self.port, PREFIX, self.tls)

    def client(self, *, http2: bool = False, source: str | None = None) -> httpx.AsyncClient:
        """HTTP through the proxy, from an address of this machine."""
        transport = httpx.AsyncHTTPTransport(
            verify=self.tls, http1=not http2, http2=http2, local_address=source
        )
        return httpx.AsyncClient(base_url=self.url, transport=transport, timeout=20)

    @abstractmethod
    async def reload(self) -> None:
        """Take the configuration anew."""

    @abstractmethod
    async def start(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    async def __aenter__(self) -> Self:
        try:
            await self.start()
            await until(self._serves, self.process.log_tail)
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def _serves(self) -> bool:
        """Whether a replica answers through it."""
        if not self.process.running:
            raise ProcessError(f"{self.program} ended by itself", self.process)
        if is_free(self.port):
            return False
        try:
            async with self.client() as client:
                return (await client.get("/openapi.json")).status_code == 200
        except httpx.HTTPError:
            return False


class NginxProxy(FrontProxy):
    """nginx."""

    program = "nginx"
    shows = ("nginx.conf",)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._server = NginxServer()
        listen = {"listen 443 ssl": f"listen {HOST}:{self.port} ssl"}
        text = site.files(site.backends(shown("nginx.conf")))
        self._server.configure(replaced(text, listen))

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def process(self) -> Process:
        return self._server.process

    async def start(self) -> None:
        await self._server.start()

    async def reload(self) -> None:
        await self._server.take_anew()

    def close(self) -> None:
        self._server.close()


class OneProcess(FrontProxy):
    """One process, one folder, one port. The subclass makes the process."""

    _process: Process

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._port = free_port(self)
        self._directory = tempfile.TemporaryDirectory(prefix=f"tidegate-{self.program}-")
        self.folder = Path(self._directory.name)

    @property
    def port(self) -> int:
        return self._port

    @property
    def process(self) -> Process:
        return self._process

    @property
    def path(self) -> Path:
        found = binaries.proxy(self.program)
        assert found is not None, binaries.missing(self.program)
        return found

    def write(self, name: str, listen: dict[str, str], *, before: str = "") -> Path:
        """A configuration in the folder."""
        path = self.folder / name
        text = self.site.files(self.site.backends(shown(name)))
        path.write_text(before + replaced(text, listen))
        return path

    def _command(self, command: Sequence[str | Path]) -> Process:
        home = {"HOME": str(self.folder), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
        log = self.folder / f"{self.program}.log"
        return Process(command, log_file=log, directory=self.folder, environment=home)

    async def start(self) -> None:
        self.process.spawn()

    def close(self) -> None:
        self.process.close()
        self._directory.cleanup()


class HAProxy(OneProcess):
    """HAProxy, with a master process."""

    program = "haproxy"
    shows = ("haproxy.cfg",)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        configuration = self.write("haproxy.cfg", {"bind :443": f"bind {HOST}:{self.port}"})
        self._process = self._command([self.path, "-W", "-f", configuration])

    async def reload(self) -> None:
        await replace_workers(self.process, signal.SIGUSR2)


class Caddy(OneProcess):
    """Caddy; its API is on a port of its own."""

    program = "caddy"
    shows = ("Caddyfile",)

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._admin = f"{HOST}:{free_port(self)}"
        own = f"{{\n\tadmin {self._admin}\n\tauto_https disable_redirects\n}}\n"
        listen = {"progress.example {": f"https://localhost:{self.port} {{\n\tbind {HOST}"}
        self._configuration = self.write("Caddyfile", listen, before=own)
        self._process = self._command(
            [self.path, "run", "--adapter", "caddyfile", "--config", self._configuration]
        )

    async def reload(self) -> None:
        reload = await asyncio.create_subprocess_exec(
            *(self.path, "reload", "--force", "--adapter", "caddyfile"),
            *("--config", self._configuration, "--address", self._admin),
            cwd=self.folder,
            env={"HOME": str(self.folder), "PATH": os.environ["PATH"]},
            stderr=asyncio.subprocess.PIPE,
        )
        done = await ended(reload, RELOAD_TIMEOUT_S)
        assert done.code == 0, done.err


class Envoy(OneProcess):
    """Envoy; `reload` is its hot restart."""

    program = "envoy"
    shows = ("envoy.yaml",)
    #: The old process drains for so long and then ends.
    DRAIN_S = 1
    SHUTDOWN_S = 2

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        listen = {
            "address: 0.0.0.0, port_value: 443": f"address: {HOST}, port_value: {self.port}",
        }
        self._configuration = self.write("envoy.yaml", listen)
        # Its shared memory is named so; the port is ours alone.
        self._base_id = str(self.port)
        self._epoch = 0
        self._process = self._envoy()

    def _envoy(self) -> Process:
        return self._command(
            [
                *(self.path, "-c", self._configuration, "--concurrency", "1"),
                *("--base-id", self._base_id, "--restart-epoch", str(self._epoch)),
                *("--drain-time-s", str(self.DRAIN_S)),
                *("--parent-shutdown-time-s", str(self.SHUTDOWN_S), "--log-level", "warning"),
                *("--socket-path", self.folder / "hot-restart", "--socket-mode", "600"),
            ]
        )

    async def reload(self) -> None:
        before = self._process
        self._epoch += 1
        self._process = self._envoy()
        self._process.spawn()
        await before.wait(RELOAD_TIMEOUT_S)
        before.close()
        await until(self._serves, self.process.log_tail)


class Traefik(OneProcess):
    """Traefik, with its file provider."""

    program = "traefik"
    shows = ("traefik.yaml", "traefik-tidegate.yaml")

    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._dynamic = self.folder / "tidegate.yaml"
        static = replaced(
            shown("traefik.yaml"),
            {'":443"': f'"{HOST}:{self.port}"', "/etc/traefik/tidegate.yaml": str(self._dynamic)},
        )
        configuration = self.folder / "traefik.yaml"
        configuration.write_text(static)
        self._text = site.files(site.backends(shown("traefik-tidegate.yaml")))
        self._dynamic.write_text(self._text)
        self._process = self._command([self.path, f"--configfile={configuration}"])

    async def reload(self) -> None:
        """With a router that it did not have, which tells when it is in force."""
        added = re.sub(
            r"^  routers:\n",
            "  routers:\n    reloaded:\n      entryPoints: [websecure]\n"
            "      rule: PathPrefix(`/reloaded/`)\n      service: tidegate\n      tls: {}\n",
            self._text,
            flags=re.MULTILINE,
        )
        new = self._dynamic.with_suffix(".new")
        new.write_text(added)
        new.replace(self._dynamic)
        async with self.client() as client:

            async def is_there() -> bool:
                answer = await client.get(f"https://localhost:{self.port}/reloaded/x")
                return "no_such_page" in answer.text

            await until(is_there, self.process.log_tail)


PROXIES: tuple[type[FrontProxy], ...] = (NginxProxy, HAProxy, Caddy, Traefik, Envoy)


def those_here() -> list[type[FrontProxy]]:
    """For a test that runs all at once. Which are missing is said by the tests of each."""
    missing = {kind: binaries.missing(kind.program) for kind in PROXIES}
    found = [kind for kind, why in missing.items() if why is None]
    if not found:
        pytest.skip("; ".join(filter(None, missing.values())))
    return found
