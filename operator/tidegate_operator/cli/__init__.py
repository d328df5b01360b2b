"""Command line of the operator: typer commands, `rich` on stdout, errors on stderr."""
