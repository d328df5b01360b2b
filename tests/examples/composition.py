"""examples/compose on this machine: the same commands, settings and files, without containers.

Only what a container has of its own is replaced: `service:port` by a port of loopback, and the
paths of mounted files by those in the checkout. What is started must be ended by the caller.
"""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.cli.command import environment
from tests.examples.example import ROOT
from tests.servers import binaries
from tests.servers.ports import free_port
from tests.servers.process import Process

FOLDER = ROOT / "examples" / "compose"
#: Of each service, where it listens in its container.
PORTS = {
    "valkey": (6379,),
    "gateway-1": (8080, 9090),
    "gateway-2": (8080, 9090),
    "nginx": (8080,),
    "prometheus": (9090,),
    "grafana": (3000,),
}
_ADDRESS = re.compile(rf"\b({'|'.join(PORTS)}):(\d+)\b")


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


def mounts(service: str) -> dict[str, Path]:
    """Path in the container -> in the checkout."""
    found = {}
    for volume in services()[service].get("volumes", ()):
        source, target, *mode = volume.split(":")
        if source.startswith("."):
            assert mode == ["ro"], volume
            found[target] = (FOLDER / source).resolve()
    return found


def image_command() -> list[str]:
    """Of the image that the Dockerfile makes."""
    (command,) = re.findall(r"^CMD (\[.*\])$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(command)
    return words


class Composition:
    """The addresses on this machine, and the process of each service, not started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._services = services()
        self.ports = {
            (name, port): free_port(self) for name, ports in PORTS.items() for port in ports
        }

    def here(self, text: str) -> str:
        """With the addresses of this machine; an unknown one is a KeyError."""
        return _ADDRESS.sub(lambda m: f"127.0.0.1:{self.ports[m[1], int(m[2])]}", text)

    def url(self, service: str, port: int) -> str:
        return f"http://127.0.0.1:{self.ports[service, port]}"

    def valkey(self) -> Process:
        program, *arguments = self._services["valkey"]["command"]
        assert program == "valkey-server"
        port = str(self.ports["valkey", 6379])
        own = ["--port", port, "--bind", "127.0.0.1", "--dir", str(self._folder)]
        return self._process("valkey", [str(binaries.embedded().path), *arguments, *own])

    def gateway(self, name: str) -> Process:
        service = self._services[name]
        command = ["127.0.0.1" if word == "::" else word for word in image_command()]
        own = {
            "TIDEGATE_SERVER__PORT": str(self.ports[name, 8080]),
            "TIDEGATE_SERVER__ADMIN_PORT": str(self.ports[name, 9090]),
            "TIDEGATE_SERVER__POD": service["hostname"],
        }
        assert command[0] == "tidegate"
        return self._process(name, [sys.executable, "-m", "tidegate.cli.main", *command[1:]], own)

    def backend(self) -> Process:
        command: list[str] = self._services["backend"]["command"]
        assert command[0] == "python"
        return self._process("backend", [sys.executable, *command[1:]])

    def nginx(self) -> Process:
        return self._process("nginx", self.nginx_command())

    def nginx_command(self, *more: str) -> list[str]:
        """With `-t` it only checks the file."""
        (source,) = mounts("nginx").values()
        own = ["access_log off;"]
        own += [
            f"{name}_temp_path {self._folder / name};"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        ]
        text = self.here(source.read_text()).replace("http {", "http {\n" + "\n".join(own), 1)
        listen = f"listen 127.0.0.1:{self.ports['nginx', 8080]};"
        assert "listen 8080;" in text
        file = self._folder / "nginx.conf"
        file.write_text(text.replace("listen 8080;", listen))
        user = "user root; " if os.getuid() == 0 else ""
        main = f"daemon off; {user}pid {self._folder / 'nginx.pid'};"
        return [
            "nginx",
            "-p",
            str(self._folder),
            "-c",
            str(file),
            "-e",
            "stderr",
            "-g",
            main,
            *more,
        ]

    def prometheus(self) -> Process:
        arguments: list[str] = self._services["prometheus"]["command"]
        found = mounts("prometheus")
        texts = {target: path.read_text() for target, path in found.items() if path.is_file()}
        ((target, text),) = texts.items()
        for place, path in found.items():
            text = text.replace(f"{place}/", f"{path}/")
        file = self._folder / "prometheus.yaml"
        file.write_text(self.here(text).replace(": 5s", ": 1s"))
        flags = [word.replace(target, str(file)) for word in arguments]
        assert flags != arguments
        flags += [f"--storage.tsdb.path={self._folder / 'tsdb'}"]
        flags += [f"--web.listen-address=127.0.0.1:{self.ports['prometheus', 9090]}"]
        return self._process("prometheus", ["prometheus", *flags])

    def _process(self, name: str, command: list[str], own: dict[str, str] | None = None) -> Process:
        given = self._services[name].get("environment", {})
        values = {variable: self.here(value) for variable, value in given.items()}
        for variable, value in values.items():
            values[variable] = value.replace("0.0.0.0", "127.0.0.1")
        clean = [f"-u{variable}" for variable in os.environ if variable.startswith("TIDEGATE_")]
        return Process(
            ["env", *clean, *(f"{k}={v}" for k, v in (values | (own or {})).items()), *command],
            log_file=self._folder / f"{name}.log",
            environment=environment(),
        )
