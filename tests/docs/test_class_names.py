"""A public class has its name for itself, in the gateway and the operator together.

So a name in a log, a traceback or a search leads to one place.
"""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
GATEWAY, OPERATOR = ROOT / "service" / "tidegate", ROOT / "operator" / "tidegate_operator"


def public_classes() -> dict[str, list[Path]]:
    """Files by the public classes that they define, nested ones too."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sorted([*GATEWAY.rglob("*.py"), *OPERATOR.rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(path)
    return found


def test_no_class_has_the_name_of_another_class() -> None:
    classes = public_classes()
    assert {"Settings", "OperatorSettings"} <= classes.keys()
    twice = {
        name: [str(path.relative_to(ROOT)) for path in paths]
        for name, paths in classes.items()
        if len(paths) > 1
    }
    assert not twice
