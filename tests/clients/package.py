"""The browser client as it is published: built, packed by `npm pack`, unpacked, served to pages.

Pages come from an origin of their own, under a policy that allows scripts of that origin only.
"""

from __future__ import annotations

import subprocess
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parents[2]
PAGES = Path(__file__).with_name("page")
BUILD_TIMEOUT_S = 100
POLICY = (
    "default-src 'none'; script-src 'self'; connect-src *; frame-src 'self'; "
    "img-src data:; base-uri 'none'"
)
_TYPES = {
    ".js": "text/javascript",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}


def pack(into: Path) -> Path:
    """Build and pack; the folder of the unpacked package."""
    _run("make", "--no-print-directory", "js", cwd=ROOT)
    packed = _run(
        "npm", "pack", "--silent", "--pack-destination", into, cwd=ROOT / "clients" / "js"
    )
    with tarfile.open(into / packed.strip().splitlines()[-1]) as archive:
        archive.extractall(into, filter="data")
    return into / "package"


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, check=False, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S
    )
    if done.returncode:
        raise AssertionError(f"{command}: {done.stdout}\n{done.stderr}")
    return done.stdout


class PageServer:
    """Serves `/package/...` and the test page. Use as a context manager.

    Attributes:
        answers: path -> what it is answered with, made anew for each request.
    """

    def __init__(self, package: Path) -> None:
        self._package = package
        self.answers: dict[str, Callable[[], str]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, self))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def read(self, path: str) -> tuple[str, bytes] | None:
        """Type and body."""
        if path in self.answers:
            return "text/plain", self.answers[path]().encode()
        folder, name = PAGES, path.lstrip("/") or "index.html"
        if name.startswith("package/"):
            folder, name = self._package, name.removeprefix("package/")
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()) or not file.is_file():
            return None
        return _TYPES.get(file.suffix, "text/plain"), file.read_bytes()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, pages: PageServer, *args: object) -> None:
        self._pages = pages
        super().__init__(*args)  # type: ignore[arg-type]  # of the standard library's own making

    def do_GET(self) -> None:
        found = self._pages.read(self.path.partition("?")[0])
        self.send_response(404 if found is None else 200)
        kind, body = found or ("text/plain", b"")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", POLICY)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""
