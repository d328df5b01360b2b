"""The CustomResourceDefinition, made from the types.

pydantic's JSON schema becomes a structural schema as the API server wants it: no references, no
`null`, no titles; defaults stay, so that the server fills them in and every reader sees the same.
The rules of each part become `x-kubernetes-validations`. What is committed under `helm/` is the
output of `tidegate-operator crd`; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import yaml

from tidegate_operator.model import gateway
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.model.parts import Part, Rule
from tidegate_operator.model.status import SCHEMA_VERSION, GatewayStatus

SCHEMA_VERSION_ANNOTATION = f"{gateway.GROUP}/schema-version"
#: With the definition every Gateway of the cluster would be deleted. Helm never deletes what is in
#: `crds/`, but a copy may be a template; Argo CD prunes what a later render leaves out.
_KEEP = {
    "argocd.argoproj.io/sync-options": "Prune=false",
    "helm.sh/resource-policy": "keep",
}

Schema = dict[str, Any]

_COLUMNS = (
    ("Mode", "string", ".spec.scaling.mode", 0, "What sets the number of replicas."),
    ("Desired", "integer", ".status.desiredReplicas", 0, "Desired number of pods."),
    ("Ready", "integer", ".status.readyReplicas", 0, "Pods that are ready."),
    ("Connections", "integer", ".status.connections", 0, "Open connections over all pods."),
    (
        "Healthy",
        "string",
        '.status.conditions[?(@.type=="Ready")].status',
        0,
        "The condition Ready.",
    ),
    ("Target", "string", ".spec.target.name", 1, "The Deployment."),
    (
        "Scaling",
        "string",
        '.status.conditions[?(@.type=="ScalingActive")].reason',
        1,
        "State of scaling.",
    ),
    ("Last sweep", "date", ".status.lastSweep.finishedAt", 1, "Time of the last sweep."),
    ("Observed", "date", ".status.observedAt", 0, "Time since the operator last looked."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Age of the resource."),
)


def crd() -> Schema:
    """The definition, as it is applied."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{gateway.PLURAL}.{gateway.GROUP}",
            "annotations": {**_KEEP, SCHEMA_VERSION_ANNOTATION: str(SCHEMA_VERSION)},
        },
        "spec": {
            "group": gateway.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": gateway.KIND,
                "listKind": f"{gateway.KIND}List",
                "plural": gateway.PLURAL,
                "singular": gateway.KIND.lower(),
                "shortNames": ["tgw"],
                "categories": ["tidegate"],
            },
            "versions": [_version()],
        },
    }


def crd_yaml() -> str:
    """The definition as the text of its file."""
    head = "# Made by `tidegate-operator crd`; a test keeps it current. Do not edit.\n"
    return head + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes everything out: an alias (`*id001`) is hard to read, and to compare."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML names it
        return True


def _version() -> Schema:
    return {
        "name": gateway.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": [
            {
                "name": name,
                "type": kind,
                "jsonPath": path,
                "priority": priority,
                "description": text,
            }
            for name, kind, path, priority, text in _COLUMNS
        ],
        "schema": {
            "openAPIV3Schema": {
                "type": "object",
                "description": "A Tidegate gateway: its pods, and the streams that it reads.",
                "required": ["spec"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": {"type": "object"},
                    "spec": structural(GatewaySpec),
                    "status": structural(GatewayStatus),
                },
            }
        },
    }


def structural(part: type[Part]) -> Schema:
    """The structural schema of a part, by the rules of apiextensions.k8s.io/v1."""
    schema = part.model_json_schema(by_alias=True, mode="validation")
    rules = {one.__name__: one.rules for one in _parts(part)}
    return _convert(schema, schema.get("$defs", {}), rules, part.__name__)


def _parts(part: type[Part]) -> set[type[Part]]:
    """Every part that exists; only names in use are looked up."""
    found: set[type[Part]] = {part}
    todo: list[type[Part]] = [Part]
    while todo:
        for child in todo.pop().__subclasses__():
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def _convert(
    node: Schema, defs: dict[str, Schema], rules: dict[str, tuple[Rule, ...]], name: str | None
) -> Schema:
    if "anyOf" in node:
        # `X | None`: a field that may be left out. The server drops a null before it validates.
        (choice,) = [one for one in node["anyOf"] if one != {"type": "null"}]
        node = {**choice, **{k: v for k, v in node.items() if k != "anyOf"}}
    if "$ref" in node:
        name = str(node["$ref"]).rpartition("/")[2]
        node = {**defs[name], **{k: v for k, v in node.items() if k != "$ref"}}
    made: Schema = {"type": node["type"]}
    if "description" in node:
        made["description"] = " ".join(str(node["description"]).split())
    for key in ("enum", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems"):
        if key in node:
            made[key] = node[key]
    for key in ("minimum", "maximum", "maxProperties"):
        if key in node:
            made[key] = node[key]
    if node["type"] == "integer":
        made["format"] = "int64"
    if node["type"] == "array":
        made["items"] = _convert(node["items"], defs, rules, None)
        if made["items"].get("properties", {}).keys() >= {"type", "lastTransitionTime"}:
            made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
    if node["type"] == "object":
        made |= _object(node, defs, rules, name)
    if node.get("default") is not None:
        # The server fills in what is inside an empty object, but not before it tries the rules.
        is_plain = node["type"] == "object" and not made.get("x-kubernetes-validations")
        made["default"] = {} if is_plain else _without_null(node["default"])
    return made


def _without_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_null(one) for key, one in value.items() if one is not None}
    return value


def _object(
    node: Schema, defs: dict[str, Schema], rules: dict[str, tuple[Rule, ...]], name: str | None
) -> Schema:
    if "properties" not in node:
        return {"additionalProperties": _convert(node["additionalProperties"], defs, rules, None)}
    made: Schema = {}
    if required := node.get("required"):
        made["required"] = required
    made["properties"] = {
        key: _convert(value, defs, rules, None) for key, value in node["properties"].items()
    }
    if validations := [_validation(rule) for rule in rules.get(name or "", ())]:
        made["x-kubernetes-validations"] = validations
    return made


def _validation(rule: Rule) -> Schema:
    return {"rule": rule.cel, "message": rule.message, "fieldPath": rule.field}
