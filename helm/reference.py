"""Makes what the chart has twice: `python helm/reference.py` writes, with `--check` it compares.

    values.yaml                  -> README.md (table), values.schema.json
    the gateway's settings model -> the schema of `settings`
    the Gateway resource's CRD   -> the schema of `scaling`, `rebalance` and `streams`
    dashboards/                  -> files/, because Helm reads nothing outside a chart

In values.yaml the comment right above a key is its description; a line of it that begins with `@`
is a piece of JSON schema, put over what the default says of the type. Maps with keys are closed,
so that a misspelt value is refused.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tidegate.model.settings import Settings
from tidegate_operator.model.schema import crd

HERE = Path(__file__).parent
CHART = HERE / "tidegate"
DASHBOARDS = HERE.parent / "dashboards"
#: Settings that a value of the chart's own decides, or that a ConfigMap must not hold: refused
#: under `settings`, where they would be passed over in silence.
ELSEWHERE = {
    "auth": ("secret", "previous_secret"),
    "publish": ("token", "previous_token"),
    "server": ("admin_token", "host", "port", "admin_host", "admin_port", "auth", "pod"),
    "redis": (
        *("url", "username", "password", "sentinel_username", "sentinel_password"),
        *("tls_ca_file", "tls_cert_file", "tls_key_file"),
    ),
    "source": ("kind",),
}
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):")
_HEAD = """# The chart `tidegate`

[Installing Tidegate](../../docs/install.md) describes how to use it.
`values-production.yaml` has example values for production, with reasons.
`values-gitops.yaml` has those for Argo CD.

<!-- made from values.yaml by `make chart`; a test keeps it current -->
| value | default | description |
|---|---|---|
"""


class Value(NamedTuple):
    """One key of values.yaml; `children` of a map that has keys."""

    path: tuple[str, ...]
    text: str
    extra: dict[str, Any]
    default: Any


def values() -> list[Value]:
    """All keys in their order, groups before their members."""
    source = (CHART / "values.yaml").read_text()
    defaults = yaml.safe_load(source)
    found: list[Value] = []
    path: list[str] = []
    comment: list[str] = []
    for line in source.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
            continue
        match = _KEY.match(line)
        # Inside a default that is written as a block (annotations, resources) nothing is described.
        if match is not None and not _inside_open_map(found, path, match, comment):
            depth = len(match["indent"]) // 2
            path = [*path[:depth], match["key"]]
            found.append(_value(tuple(path), comment, defaults))
        comment = []
    return found


def _inside_open_map(
    found: list[Value], path: list[str], match: re.Match[str], comment: list[str]
) -> bool:
    depth = len(match["indent"]) // 2
    if comment or depth == 0:
        return False
    parent = tuple(path[:depth])
    return any(one.path == parent[: len(one.path)] and _is_open(one) for one in found)


def _is_open(value: Value) -> bool:
    return "$ref" in value.extra or value.path[-1] == "annotations"


def _value(path: tuple[str, ...], comment: list[str], defaults: Any) -> Value:
    default = defaults
    for key in path:
        default = default[key]
    text = " ".join(line for line in comment if not line.startswith("@"))
    extra: dict[str, Any] = {}
    for line in comment:
        if line.startswith("@"):
            extra |= json.loads(line[1:])
    return Value(path, text, extra, default)


# --- values.schema.json


def schema() -> dict[str, Any]:
    """JSON schema, draft 7, of the values."""
    all_values = values()
    made: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart tidegate",
        "type": "object",
        "additionalProperties": False,
        "properties": _members(all_values, ()),
        "$defs": {
            "anything": {"type": "object"},
            "env": {"type": "object", "required": ["name"]},
            "probe": _probe(),
            # As the schema of the Gateway has them; empty: none.
            "secretName": _text(rf"^({_LABEL}(\.{_LABEL})*)?$", 253),
            "secretKey": _text("^[-._a-zA-Z0-9]*$", 253),
            "settings": _settings(),
        }
        | _resource(),
    }
    return made


def _members(all_values: list[Value], parent: tuple[str, ...]) -> dict[str, Any]:
    return {
        value.path[-1]: _one(all_values, value) for value in all_values if value.path[:-1] == parent
    }


def _one(all_values: list[Value], value: Value) -> dict[str, Any]:
    text = {"description": value.text} if value.text else {}
    if "$ref" in value.extra:
        # Draft 7 passes over what stands beside a $ref.
        return text | {"allOf": [value.extra]}
    if children := _members(all_values, value.path):
        made = {"type": "object", "additionalProperties": False, "properties": children}
        return text | made | value.extra
    return text | _type(value.default) | {"default": value.default} | value.extra


def _type(default: Any) -> dict[str, Any]:
    match default:
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer"}
        case str():
            return {"type": "string"}
        case list():
            return {"type": "array"}
        case dict():
            return {"type": "object", "additionalProperties": {"type": "string"}}
        case _:
            return {}


def _text(pattern: str, longest: int) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern, "maxLength": longest}


def _probe() -> dict[str, Any]:
    """What may be changed of a probe: its timing. Null removes a default."""
    number = {"type": ["integer", "null"], "minimum": 1, "maximum": 3600}
    names = ("periodSeconds", "timeoutSeconds", "failureThreshold")
    properties = {"initialDelaySeconds": number | {"minimum": 0}} | dict.fromkeys(names, number)
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _settings() -> dict[str, Any]:
    """The gateway's settings, closed; without what is said elsewhere."""
    model = Settings.model_json_schema()
    groups = {}
    for group, reference in model["properties"].items():
        definition = model["$defs"][reference["$ref"].rpartition("/")[2]]
        groups[group] = {
            "type": "object",
            "additionalProperties": False,
            "description": " ".join(definition.get("description", "").split()),
            "properties": {
                name: _setting(field)
                for name, field in definition["properties"].items()
                if name not in ELSEWHERE.get(group, ())
            },
        }
    return {"type": "object", "additionalProperties": False, "properties": groups}


def _setting(field: dict[str, Any]) -> dict[str, Any]:
    """Type, bounds and words. What a list holds is left to the gateway, which says it better."""
    choices = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    made: dict[str, Any] = {}
    if len(choices) == 1:
        for key in ("type", "enum", "const", "minimum", "maximum"):
            if key in choices[0]:
                made[key] = choices[0][key]
        if made.get("type") == "array":
            made["type"] = ["array", "string"]
    if len(field.get("anyOf", ())) > 1 and "type" in made:
        made["type"] = [made["type"], "null"]
        if "enum" in made:
            made["enum"] = [*made["enum"], None]
    return made | {"description": field.get("description", "")}


def _resource() -> dict[str, Any]:
    """The parts of the Gateway's spec that are values of the chart."""
    version = crd()["spec"]["versions"][0]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    return {name: _plain(spec[name]) for name in ("scaling", "rebalance", "streams")}


def _plain(node: Any) -> Any:
    """Without what only Kubernetes understands; closed, as the API server will have it."""
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if not isinstance(node, dict):
        return node
    made = {key: _plain(one) for key, one in node.items() if not key.startswith("x-")}
    if made.get("type") == "object" and "properties" in made:
        made["additionalProperties"] = False
    if isinstance(made.get("format"), str):
        del made["format"]
    return made


# --- README.md


def readme() -> str:
    """The table of all values that have no members."""
    return _HEAD + "".join(_rows())


def _rows() -> Iterator[str]:
    all_values = values()
    groups = {value.path[:-1] for value in all_values}
    for value in all_values:
        name = ".".join(value.path)
        if value.path in groups:
            if value.text:
                yield f"| **`{name}`** | | {value.text} |\n"
        else:
            default = json.dumps(value.default)
            yield f"| `{name}` | `{default}` | {value.text.replace('|', chr(92) + '|')} |\n"


# --- files


def outputs() -> dict[Path, str]:
    """Every made file with its text."""
    made = {
        CHART / "README.md": readme(),
        CHART / "values.schema.json": json.dumps(schema(), indent=2, ensure_ascii=False) + "\n",
    }
    for kind, pattern in (("rules", "*.yaml"), ("boards", "*.json")):
        for path in sorted((DASHBOARDS / kind).glob(pattern)):
            made[CHART / "files" / kind / path.name] = path.read_text()
    return made


def stale() -> list[str]:
    """What differs from what would be made, one line each."""
    made = outputs()
    found = [
        f"{path.relative_to(HERE.parent)} is not current"
        for path, text in made.items()
        if not path.exists() or path.read_text() != text
    ]
    there = {path for kind in ("rules", "boards") for path in (CHART / "files" / kind).glob("*")}
    return found + [f"{path.relative_to(HERE.parent)} has no source" for path in there - set(made)]


def main() -> None:
    """Write, or with `--check` end with 1 when something is not current."""
    if sys.argv[1:] == ["--check"]:
        if found := stale():
            sys.exit("\n".join([*found, "run: make chart"]))
        return
    made = outputs()
    for kind in ("rules", "boards"):
        directory = CHART / "files" / kind
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*"):
            if path not in made:
                path.unlink()
    for path, text in made.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
