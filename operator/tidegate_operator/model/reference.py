"""The tables of ``docs/operator.md``: every field of the resource, made from its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.model.schema import Schema, structural
from tidegate_operator.model.status import GatewayStatus


def reference() -> str:
    """Markdown: one table for each object of `spec`, then `status`."""
    spec, status = structural(GatewaySpec), structural(GatewayStatus)
    return "\n".join([*_object("spec", spec), *_object("status", status)]).rstrip() + "\n"


def _object(path: str, schema: Schema) -> Iterator[str]:
    yield f"### {path}"
    yield ""
    yield schema["description"]
    yield ""
    is_told = path.startswith("status")
    yield (
        "| field | type | description |"
        if is_told
        else "| field | default | allowed | description |"
    )
    yield "|---|---|---|" if is_told else "|---|---|---|---|"
    required = schema.get("required", ())
    for name, field in schema["properties"].items():
        cells = [f"`{name}`", *_cells(name, field, required, is_told=is_told)]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    for rule in schema.get("x-kubernetes-validations", ()):
        yield f"* {rule['message']}."
    if "x-kubernetes-validations" in schema:
        yield ""
    for name, field in schema["properties"].items():
        inner = field.get("items", field)
        if "properties" in inner:
            mark = "[]" if "items" in field else ""
            yield from _object(f"{path}.{name}{mark}", inner)


def _cells(name: str, field: Schema, required: object, *, is_told: bool) -> list[str]:
    inner = field.get("items", field)
    text = field.get("description", "")
    if is_told:
        kind = inner["type"] + ("[]" if "items" in field else "")
        return [field.get("format", kind) if kind == "string" else kind, text]
    if isinstance(required, list) and name in required:
        default = "needed"
    elif "properties" in inner:
        default = "none" if "items" in field else "as below"
    elif "default" in field:
        default = f"`{json.dumps(field['default']).strip(chr(34))}`"
    else:
        default = "not set"
    return [default, _allowed(field), text]


def _allowed(field: Schema) -> str:
    if "items" in field:
        least = field.get("minItems", 0)
        inner = _allowed(field["items"])
        most = field["maxItems"]
        return (
            f"{least} to {most}"
            if "properties" in field["items"]
            else f"{least} to {most}: {inner}"
        )
    if "enum" in field:
        return ", ".join(f"`{one}`" for one in field["enum"])
    match field["type"]:
        case "integer":
            return f"{field['minimum']:,} to {field['maximum']:,}"
        case "boolean":
            return "`true`, `false`"
        case "object" if "properties" in field:
            return "object"
        case "object":
            return f"map of text, at most {field.get('maxProperties', 0)}"
        case _:
            return f"text, `{field['pattern']}`" if "pattern" in field else "text"
