"""What all parts of the Gateway resource share: names, strictness, and rules with one home.

A rule between fields is written once, as CEL for the API server and as a function for Python, with
one message; `schema.py` puts the first into the CRD, and `Part` checks the second. So a resource
that the API server lets pass is one that the operator can read, and a file given to the simulator
is refused for the same reasons.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


class Rule(NamedTuple):
    """One rule between fields of a part.

    Attributes:
        cel: what must be true, for the API server (`self` is the part). It may name `oldSelf`;
            then `holds` is None, because only the server knows the old one.
        message: what must be, and what to do; begins with the field's path inside the part.
        field: the field to be named by the API server.
        holds: the same for Python.
    """

    cel: str
    message: str
    field: str
    holds: Callable[[Any], bool] | None


class Part(BaseModel):
    """A frozen part of the resource; in YAML its names are camelCase.

    Unknown fields are passed over: an older operator must be able to read what a newer CRD allows,
    and the API server has refused or pruned what nobody knows.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        allow_inf_nan=False,
    )

    rules: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        for rule in self.rules:
            if rule.holds is not None and not rule.holds(self):
                raise PydanticCustomError("rule_broken", "{text}", {"text": rule.message})
        return self


def whole(least: int, most: int, text: str) -> FieldInfo:
    """An integer field with bounds; `text` is its description."""
    field: FieldInfo = Field(ge=least, le=most, strict=True, description=text)
    return field


#: A name of an object in Kubernetes (RFC 1123 sub-domain).
ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
#: A key inside a Secret or ConfigMap.
DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class KeyOf(Part):
    """One key of a Secret in the Gateway's namespace."""

    name: Annotated[ObjectName, Field(description="Name of the Secret.")]
    key: Annotated[DataKey, Field(description="Key in the Secret.")]


class CertificateOf(Part):
    """A certificate and its key, as PEM, in one Secret of the Gateway's namespace."""

    name: Annotated[
        ObjectName, Field(description="Name of the Secret, such as one of kubernetes.io/tls.")
    ]
    cert_key: Annotated[DataKey, Field(description="Key in the Secret with the certificate.")] = (
        "tls.crt"
    )
    key_key: Annotated[
        DataKey, Field(description="Key in the Secret with the private key, not encrypted.")
    ] = "tls.key"
