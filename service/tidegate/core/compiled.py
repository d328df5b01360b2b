"""Whether the engine, the modules on the path of an entry, is compiled.

pyproject.toml lists these modules, and `hatch_build.py` compiles them into a wheel. Compiled and
interpreted modules behave the same.
"""

from __future__ import annotations

from importlib.util import find_spec


def engine() -> str:
    """`compiled` or `python`. Only the package is imported for that, not its modules."""
    spec = find_spec("tidegate.core.topic")
    is_source = spec is None or str(spec.origin).endswith(".py")
    return "python" if is_source else "compiled"
