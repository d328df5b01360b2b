"""Whether the modules on the way of an entry are compiled: pyproject.toml lists them, and
`hatch_build.py` compiles them into a wheel. Both forms do the same.
"""

from __future__ import annotations

from importlib.util import find_spec


def engine() -> str:
    """`compiled` or `python`; nothing is imported for it but the package."""
    spec = find_spec("tidegate.core.topic")
    is_source = spec is None or str(spec.origin).endswith(".py")
    return "python" if is_source else "compiled"
