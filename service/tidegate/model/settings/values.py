"""Kinds of values that several groups use: texts with a pattern, and lists that may be one text.

Each pattern has a description for the reference page and for error messages.

A `Constant` is not a setting: there is no reason for a user to change it. It has no flag, variable
or key in a file. It is a field of its group, with its reason; a test may shorten it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field
from pydantic.json_schema import SkipJsonSchema

T = TypeVar("T")


#: A field that the schema does not show, so that flags, files and pages do not know it.
Constant = Annotated[T, SkipJsonSchema()]


def split_list(value: Any) -> Any:
    """Lists may be written ``a,b`` or as JSON where there is only text (flags, environment)."""
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            try:
                return json.loads(value)
            except ValueError:
                raise ValueError("is not a valid JSON list") from None
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def pattern(pattern: str, words: str, **more: Any) -> Any:
    """A text field whose pattern has a description."""
    return Field(pattern=pattern, json_schema_extra={"allowed": words}, **more)


Word = Annotated[
    str, pattern(r"^[\x21-\x7e]{1,128}$", "1 to 128 printable ASCII characters, no space")
]


Words = Annotated[
    tuple[Word, ...],
    Field(max_length=64),
    BeforeValidator(split_list),
]


Port = Annotated[int, Field(ge=0, le=65_535)]


Host = Annotated[str, pattern(r"^[^\s/]{1,255}$", "an address or a host name")]


HttpUrl = Annotated[
    str,
    pattern(
        r"^https?://[^\s/?#@\\]+(/[\x21\x24-\x3e\x40-\x7e]*)?$",
        "an http:// or https:// URL without user, query and fragment",
        max_length=1_024,
    ),
]
