"""The files under requirements/: exact versions with the hashes of all their files.

`image.txt` is what the image has, at the versions of constraints.txt, for each Python and processor
that we support; `build.txt` is what distributions are built with, and `release.txt` what checks
them. pip compares each file that it fetches, so a changed one is refused wherever it came from.
Made by uv; no file names the place that packages come from.
"""

from __future__ import annotations

import re
from pathlib import Path

from release.command import ROOT, run

FOLDER = ROOT / "requirements"
HEAD = "# Made by `make constraints` or `make hashes`; do not edit.\n"
#: The oldest that is supported; `--universal` makes one file for this and all newer ones.
PYTHON = "3.11"
SOURCES = {
    "image": ("--extra", "operator", "--extra", "otlp", "pyproject.toml"),
    "build": ("--group", "pyproject.toml:build"),
    "release": ("--group", "pyproject.toml:release"),
}
_PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>\S+?)(?: ; (?P<marker>[^\\]+?))? \\\n"
    r"(?P<hashes>(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)",
    re.MULTILINE,
)


def write(uv: Path) -> None:
    """All files, anew."""
    FOLDER.mkdir(exist_ok=True)
    for name, source in SOURCES.items():
        text = run(
            *(uv, "pip", "compile", "--quiet", "--universal", "--python-version", PYTHON),
            *("--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url"),
            *("--constraint", "constraints.txt", *source),
        )
        (FOLDER / f"{name}.txt").write_text(HEAD + text, "utf-8")


def pins(text: str) -> dict[str, str]:
    """Normalized name -> version, of the requirements that have hashes."""
    return {normalized(found["name"]): found["version"] for found in _PIN.finditer(text)}


def unreadable(text: str) -> str:
    """What is left of a file without its head and its pins: nothing, in a sound one."""
    return _PIN.sub("", text.removeprefix(HEAD))


def normalized(name: str) -> str:
    """As PEP 503 has it."""
    return re.sub(r"[-_.]+", "-", name).lower()
