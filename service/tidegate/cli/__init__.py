"""The command line: one module per command, and what the commands share.

Nothing here is imported by the rest of the package. Command modules import only typer at the top
and everything heavy inside the command, so that ``tidegate --help`` is quick.
"""
