"""One real Redis-compatible server in a folder of its own.

| state   | how it gets there  | what clients see                                      |
|---------|--------------------|-------------------------------------------------------|
| running | `start`, `restart` | answers                                               |
| paused  | `pause` (SIGSTOP)  | connections stay open, nothing answers until `resume` |
| dead    | `kill`, `stop`     | refused, until `restart` on the same port and data    |

Ready means that PING was answered with PONG: not refused, not LOADING. The configuration is a file
written once, so that CONFIG REWRITE and a Sentinel's changes outlive a restart, as in production.
"""

import asyncio
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from tests.harness.waiting import until
from tests.servers.binaries import Binary
from tests.servers.ports import free_port
from tests.servers.process import Process, ProcessError
from tests.servers.tls import Certificates

READY_TIMEOUT_S = 60.0
#: An answer to whether it is intact: longer than a busy machine makes one wait.
ANSWER_S = 5.0
_PORT_TRIES = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What differs between servers. `config` has any further lines of the configuration file.

    `durable` is an append-only file: every acknowledged write outlives a SIGKILL.
    `program_arguments` go after the file's name (`--sentinel`). A server without `databases` is a
    Sentinel, which does not know the lines that are about data.
    """

    password: str | None = None
    durable: bool = False
    unix_socket: bool = False
    tls: Certificates | None = None
    config: Mapping[str, str | int] | None = None
    program_arguments: tuple[str, ...] = ()
    databases: bool = True


PLAIN = Options()


class Server:
    """Use as an async context manager, or `await start()` and `close()`."""

    host = "127.0.0.1"

    def __init__(
        self,
        binary: Binary,
        options: Options = PLAIN,
        *,
        port: int | None = None,
        directory: Path | None = None,
    ) -> None:
        self.binary = binary
        self.options = options
        self.port = port or free_port()
        self._port_is_ours = port is None
        # Short: the path of a Unix socket may have 107 characters at the most.
        self.directory = directory or Path(tempfile.mkdtemp(prefix="tidegate-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._remove: Callable[[], object] = lambda: None
        if (
            directory is None
        ):  # a folder of the caller's stays; ours is removed at exit, at the latest
            self._remove = weakref.finalize(self, shutil.rmtree, self.directory, ignore_errors=True)
        self.config_file = self.directory / "server.conf"
        self.socket_file = self.directory / "server.sock"
        self.process = Process(
            [binary.path, self.config_file, *options.program_arguments],
            log_file=self.directory / "server.log",
            directory=self.directory,
        )
        self._config_at_start: dict[str, str] | None = None

    # --- addresses

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """`redis://` or `rediss://`, with the password. For TLS the CA file is given apart."""
        secret = (
            "" if self.options.password is None else f":{quote(self.options.password, safe='')}@"
        )
        return f"{'rediss' if self.options.tls else 'redis'}://{secret}{self.address}/0"

    @property
    def unix_url(self) -> str:
        if not self.options.unix_socket:
            raise ProcessError("it has no Unix socket: Options(unix_socket=True)", self.process)
        secret = (
            "" if self.options.password is None else f":{quote(self.options.password, safe='')}@"
        )
        return f"unix://{secret}{self.socket_file}?db=0"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.running

    def client(self, **kwargs: Any) -> "redis.asyncio.Redis":
        """A redis-py client that fails at once instead of trying again. Close it: `async with`."""
        kwargs.setdefault("retry", Retry(NoBackoff(), 0))
        if (tls := self.options.tls) is not None:
            kwargs.setdefault("ssl_ca_certs", str(tls.ca_file))
            kwargs.setdefault("ssl_certfile", str(tls.client_cert_file))
            kwargs.setdefault("ssl_keyfile", str(tls.client_key_file))
        return redis.asyncio.Redis.from_url(self.url, **kwargs)

    # --- life

    async def start(self) -> Self:
        """Start and wait until PING is answered. Raises ProcessError with the log."""
        for attempt in range(1, _PORT_TRIES + 1):
            if not self.config_file.exists():
                self.config_file.write_text(self._configuration())
            self.process.spawn()
            try:
                await self._ready()
                break
            except ProcessError:
                taken = "in use" in self.process.log_tail() and self._port_is_ours
                self.process.close()
                if not taken or attempt == _PORT_TRIES:
                    raise
                self.port = free_port()
                self.config_file.unlink()
        if self._config_at_start is None:
            self._config_at_start = await self._config()
        return self

    async def kill(self) -> None:
        """SIGKILL: what was not written to disk is lost."""
        await self.process.kill()

    async def stop(self) -> None:
        """SIGTERM: the server saves what its configuration says and leaves."""
        await self.process.stop()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()

    async def restart(self) -> None:
        """Start a dead server again, same port and data. A running one is stopped first."""
        if self.running:
            await self.stop()
        self._port_is_ours = False  # clients know the port by now
        await self.start()

    def close(self) -> None:
        """End the process and remove the folder. Any number of times."""
        self.process.close()
        self._remove()

    async def __aenter__(self) -> Self:
        try:
            return await self.start()
        except BaseException:
            self.close()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    # --- between tests

    async def intact(self) -> bool:
        """Whether another test may have it: running, answering, and configured as at the start."""
        if not self.running:
            return False
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._config() == self._config_at_start
        except (RedisError, OSError, TimeoutError):
            return False

    async def wipe(self) -> None:
        """No keys, no scripts, no connection of anybody's, and no record of what was refused."""
        async with self.client() as client:
            await client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes")
            await client.execute_command("FLUSHALL")
            await client.execute_command("SCRIPT", "FLUSH")
            await client.execute_command("CONFIG", "RESETSTAT")
            await client.execute_command("ACL", "LOG", "RESET")
            await client.execute_command("SLOWLOG", "RESET")

    # --- inside

    async def _config(self) -> dict[str, str]:
        """The whole configuration and the users, to be compared later."""
        if not self.options.databases:
            return {}
        async with self.client(decode_responses=True) as client:
            config = {str(key): str(value) for key, value in (await client.config_get("*")).items()}
            config["acl"] = str(await client.execute_command("ACL", "LIST"))
            return config

    async def _ready(self) -> None:
        last: Exception | None = None
        async with self.client(socket_connect_timeout=1, socket_timeout=1) as client:

            async def answers() -> bool:
                nonlocal last
                if not self.running:
                    raise ProcessError(f"ended with {self.process.returncode}", self.process)
                try:
                    return bool(await client.execute_command("PING"))
                except (RedisError, OSError) as error:
                    last = error
                    return False

            try:
                await until(answers, within_s=READY_TIMEOUT_S)
            except AssertionError:
                text = f"not ready in {READY_TIMEOUT_S:.0f} s: {last!r}"
                raise ProcessError(text, self.process) from None

    def _configuration(self) -> str:
        options = self.options
        lines: dict[str, str | int] = {"bind": self.host, "dir": f'"{self.directory}"'}
        if options.databases:
            lines |= {
                "save": "",  # no snapshot unless a test asks
                "appendonly": "yes" if options.durable else "no",
                "enable-debug-command": "local",
            }
        if options.tls is None:
            lines["port"] = self.port
        else:
            lines |= {
                "port": 0,
                "tls-port": self.port,
                "tls-ca-cert-file": f'"{options.tls.ca_file}"',
                "tls-cert-file": f'"{options.tls.server_cert_file}"',
                "tls-key-file": f'"{options.tls.server_key_file}"',
                "tls-auth-clients": "no",
            }
        if options.password is not None:
            lines["requirepass"] = f'"{options.password}"'
            if options.databases:
                lines["masterauth"] = f'"{options.password}"'
        if options.unix_socket:
            lines |= {"unixsocket": f'"{self.socket_file}"', "unixsocketperm": 700}
        lines |= options.config or {}
        return "".join(f"{key} {_quoted(value)}\n" for key, value in lines.items())


def _quoted(value: str | int) -> str | int:
    return '""' if value == "" else value
