"""What ``tidegate run`` runs: who is started, in which order, and who comes back.

| state    | how it gets there          | what happens                                    |
|----------|----------------------------|-------------------------------------------------|
| starting | `run`                      | server, replicas, backend; a death is an error  |
| running  | all replicas are ready     | a death is said and, after a while, undone      |
| stopping | a signal                   | SIGTERM in the reverse order                    |
| killing  | a second signal            | SIGKILL to all                                  |
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Secret

from tidegate.cli.browser import has_desktop, open_page
from tidegate.cli.children import Child, ProcessReaper
from tidegate.cli.demo_words import Shown, greeting, say, say_line
from tidegate.cli.embedded_server import find_server, server_command
from tidegate.cli.ports import free_port
from tidegate.cli.settings_fields import setting_fields
from tidegate.core.exit_status import how_it_ended
from tidegate.model.errors import TidegateError
from tidegate.model.settings import Settings

READY_TIMEOUT_S = 30.0
#: Nothing tells that a process is about to answer, so it is asked often.
ASK_EVERY_S = 0.05
#: Of each replica: what a shell's limit of 1,024 descriptors has room for.
MAX_CONNECTIONS = 500
BACKEND_GRACE_S = 3.0
REPLICA_GRACE_S = 6.0
SERVER_GRACE_S = 3.0

Question = Callable[[], Awaitable[bool]]


class DemoFailed(TidegateError):
    """A part did not come up; the text ends with what it said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """The flags of ``tidegate run``."""

    host: str
    port: int
    admin_port: int
    replicas: int
    embed: bool
    redis_port: int
    seed: int | None
    operations: int
    ends_after_s: float | None
    open_page: bool
    restart_after_s: float | None
    config: Path | None
    assignments: tuple[str, ...]


class Demo:
    """One run, from start to end."""

    def __init__(self, options: DemoOptions, settings: Settings) -> None:
        self._options = options
        self._settings = settings
        self._stopping = asyncio.Event()
        self._killing = asyncio.Event()
        self._children: list[Child] = []
        self._given: set[int] = set()

    async def run(self) -> None:
        """Until a signal. Raises DemoFailed when something does not come up."""
        program = find_server() if self._options.embed else None
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        caretaker = await ProcessReaper.start()
        try:
            async with asyncio.TaskGroup() as group:
                try:
                    await self._start(caretaker, program, group)
                    await self._until_end()
                finally:
                    self._stopping.set()
                    await self._stop()
        except* (TidegateError, OSError) as errors:
            raise errors.exceptions[0] from None
        finally:
            await caretaker.close()
        say("ended, nothing is left")

    async def _until_end(self) -> None:
        """A signal, or the end of the time that it has."""
        ends_after_s = self._options.ends_after_s
        try:
            async with asyncio.timeout(ends_after_s):
                await self._stopping.wait()
        except TimeoutError:
            say(f"its {(ends_after_s or 0) / 60:g} minutes are over")

    def _on_signal(self) -> None:
        if self._stopping.is_set():
            self._killing.set()
            for child in self._children:
                child.signal(signal.SIGKILL)
        self._stopping.set()

    # --- start

    async def _start(
        self, caretaker: ProcessReaper, program: Path | None, group: asyncio.TaskGroup
    ) -> None:
        options = self._options
        url = self._settings.redis.url.get_secret_value()
        if program is not None:
            port = self._port("the embedded server", options.redis_port, "127.0.0.1")
            url = f"redis://127.0.0.1:{port}/0"
            server = Child(
                "server",
                server_command(program, port, caretaker.folder),
                caretaker=caretaker,
                hear=lambda _name, _line: None,  # kept in its tail, for when it does not start
            )
            await self._launch(server, group)
            await self._until_ready(server, lambda: _answers(port, b"PING\r\n", b"PONG"))

        environment = self._environment(url)
        replicas = self._plan_replicas(caretaker, environment)
        for child, _, _ in replicas:
            await self._launch(child, group)
        for child, _, admin in replicas:
            await self._until_ready(child, _readyz(admin))

        backend = Child(
            "backend",
            _python(
                "tidegate.cli.demo_backend",
                str(options.operations),
                *(() if options.seed is None else (str(options.seed),)),
            ),
            caretaker=caretaker,
            hear=say_line,
            environment=environment,
            # It deletes its streams when it is told to end.
            orphan_signal=signal.SIGTERM,
        )
        await self._launch(backend, group)
        if not self._stopping.is_set():
            shown = [Shown(child.name, child.pid, url_, admin) for child, url_, admin in replicas]
            for line in greeting(shown, url, self._settings.redis.key_prefix):
                say(line)
            if options.open_page and has_desktop():
                await asyncio.to_thread(open_page, f"{shown[0].url}/")

    def _plan_replicas(
        self, caretaker: ProcessReaper, environment: dict[str, str]
    ) -> list[tuple[Child, str, int]]:
        """Each replica's child, base URL and admin port."""
        options = self._options
        names = [f"replica-{n}" for n in range(1, options.replicas + 1)]
        ports = [self._port(n, options.port + i, options.host) for i, n in enumerate(names)]
        admins = [
            self._port(f"{n} (admin)", options.admin_port + i, "127.0.0.1")
            for i, n in enumerate(names)
        ]
        shown_host = "127.0.0.1" if options.host in ("0.0.0.0", "::") else options.host  # noqa: S104
        if ":" in shown_host:
            shown_host = f"[{shown_host}]"
        urls = [f"http://{shown_host}:{port}" for port in ports]
        replicas = []
        for name, port, admin, url in zip(names, ports, admins, urls, strict=True):
            command = _python(
                "tidegate.cli.main",
                *("serve", "--auth", "none", "--pod", name, "--workers", "1"),
                *("--host", options.host, "--port", str(port)),
                *("--admin-host", "127.0.0.1", "--admin-port", str(admin)),
                *(("--config", str(options.config)) if options.config is not None else ()),
                *("--set", f"replica.max_connections={MAX_CONNECTIONS}"),
                *(part for text in options.assignments for part in ("--set", text)),
                *("--set", "server.demo=true", "--set", f"server.demo_replicas={','.join(urls)}"),
                # The page of one replica connects to the others, and so may one in development.
                *("--set", f"auth.origins={','.join(_origins(urls))}"),
                # Nobody waits at Ctrl-C for a drain that has nowhere to send viewers to.
                *("--set", "drain.delay_s=0", "--set", "drain.window_s=0.5"),
                # The parent's grace is the longer one, so that a drain may finish.
                *("--set", f"server.shutdown_timeout_s={REPLICA_GRACE_S - 1}"),
            )
            child = Child(
                name, command, caretaker=caretaker, hear=say_line, environment=environment
            )
            replicas.append((child, url, admin))
        return replicas

    def _environment(self, url: str) -> dict[str, str]:
        """For replicas and backend: the way to Redis. In flags everyone could read passwords."""
        environment = dict(os.environ)
        for field in setting_fields().values():
            if field.group == "redis":
                value = getattr(self._settings.redis, field.name)
                environment[field.variable] = _for_environment(value)
        environment["TIDEGATE_REDIS__URL"] = url
        if self._options.embed:
            # A login that is meant for another server would be refused; empty means not set.
            environment["TIDEGATE_REDIS__USERNAME"] = environment["TIDEGATE_REDIS__PASSWORD"] = ""
        environment["TIDEGATE_LOG__LEVEL"] = self._settings.log.level
        environment.setdefault("TIDEGATE_LOG__FORMAT", "pretty")
        return environment

    def _port(self, what: str, wanted: int, host: str) -> int:
        port = free_port(wanted, host, self._given)
        if port != wanted:
            say(f"port {wanted} is taken, {what} gets {port}")
        return port

    # --- life of one child

    async def _launch(self, child: Child, group: asyncio.TaskGroup) -> None:
        if self._stopping.is_set():
            return
        await child.start()
        self._children.append(child)
        group.create_task(self._keep(child), name=f"keep {child.name}")

    async def _keep(self, child: Child) -> None:
        """Hear the child, and start it again when it ends on its own."""
        while True:
            status = await child.run()
            if self._stopping.is_set():
                return
            wait_s = self._options.restart_after_s
            text = f"{child.name} (pid {child.pid}) {how_it_ended(status)}"
            if wait_s is None:
                say(text, "yellow")
                return
            say(f"{text}; starts again in {wait_s:g} s", "yellow")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._stopping.wait()
            if self._stopping.is_set():
                return
            await child.start()
            if self._stopping.is_set():  # while it was being started; `_stop` did not see it
                child.signal(signal.SIGKILL)
            say(f"{child.name} is started again (pid {child.pid})", "green")

    async def _until_ready(self, child: Child, question: Question) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not self._stopping.is_set():
                    if not child.running:
                        break
                    if await question():
                        return
                    await asyncio.sleep(ASK_EVERY_S)
        except TimeoutError:
            raise DemoFailed(_told(f"{child.name} did not become ready", child)) from None
        if not self._stopping.is_set():
            raise DemoFailed(_told(f"{child.name} did not start", child))

    async def _stop(self) -> None:
        """In the reverse order: who depends on another ends first."""
        graces = {"backend": BACKEND_GRACE_S, "server": SERVER_GRACE_S}
        say("ending ...")
        for is_now in ("backend", "replica", "server"):
            ending = [c for c in self._children if c.name.startswith(is_now) and c.running]
            grace_s = 0.0 if self._killing.is_set() else graces.get(is_now, REPLICA_GRACE_S)
            await asyncio.gather(*(child.stop(grace_s) for child in ending))


def _told(text: str, child: Child) -> str:
    """``text`` and the last that the child said."""
    return "\n".join([f"{text}; the last it said:", *(child.tail or ["(nothing)"])])


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _for_environment(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Secret):
        return str(value.get_secret_value())
    return str(value)


async def _answers(port: int, question: bytes, wanted: bytes) -> bool:
    """Whether the first line of the answer holds ``wanted``; no answer is a no."""
    try:
        async with asyncio.timeout(2):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(question)
                return wanted in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def _readyz(port: int) -> Question:
    return lambda: _answers(port, b"GET /readyz HTTP/1.0\r\n\r\n", b" 200 ")


def _origins(urls: Sequence[str]) -> list[str]:
    """Those of the page, and of a development server on any port of this machine."""
    return [*urls, *(f"http://{host}:*" for host in ("127.0.0.1", "localhost", "[::1]"))]
