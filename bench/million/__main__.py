"""`python -m bench.million`."""

import typer

from bench.million.cli import main

typer.run(main)
