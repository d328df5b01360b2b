"""`python -m website build` and `python -m website serve`: `make site`, `make check-site`.

Exit status: 0, 1 when the site has faults or MkDocs refused it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from website.checks import site_faults
from website.links import ROOT

CONFIG: Final = ROOT / "website" / "mkdocs.yml"
# Material says at each build that it will be replaced; CHANGELOG.md is where we would say so.
ENVIRONMENT: Final = {"NO_MKDOCS_2_WARNING": "1"}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)


def _mkdocs(*arguments: str) -> int:
    command = (sys.executable, "-m", "mkdocs", *arguments, "--config-file", str(CONFIG))
    return subprocess.run(command, env=os.environ | ENVIRONMENT, check=False).returncode


@app.command()
def build(
    out: Annotated[Path, typer.Option(help="Folder that is written.")] = ROOT / "build" / "site",
) -> None:
    """Build the site, and look for what MkDocs does not look for."""
    if _mkdocs("build", "--strict", "--site-dir", str(out.resolve())) != 0:
        raise typer.Exit(1)
    faults = site_faults(out)
    for fault in faults:
        print(fault)
    if faults:
        raise typer.Exit(1)
    print(f"{sum(1 for _ in out.rglob('*.html'))} pages in {out}")


@app.command()
def serve(
    address: Annotated[str, typer.Option(help="Host and port.")] = "127.0.0.1:8000",
) -> None:
    """Show the site, and build it again when a page changes."""
    raise typer.Exit(_mkdocs("serve", "--dev-addr", address))


if __name__ == "__main__":
    app()
