"""What all groups of settings share, and the error of a rule between their fields."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


class Group(BaseModel):
    """What all groups share: frozen, no unknown names, no ``true`` where a number belongs."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    #: Empty where the settings are in no group, as the operator's.
    group_name: ClassVar[str]

    @field_validator("*", mode="before")
    @classmethod
    def _no_bool_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic reads True as 1, so `linger_s: yes` in YAML would mean one second.
        name = info.field_name
        if isinstance(value, bool) and name and cls.model_fields[name].annotation in (int, float):
            raise ValueError("must be a number, not true or false")
        return value

    @classmethod
    def setting_names(cls) -> frozenset[str]:
        """Of its fields, those that are no constants (`values.Constant`)."""
        return frozenset(cls.model_json_schema().get("properties", ()))

    def _require(self, field: str, relation: str, other: str) -> None:
        """Refuse unless ``field < other`` or ``field <= other``; the message names both."""
        left, right = getattr(self, field), getattr(self, other)
        if not (left < right if relation == "<" else left <= right):
            word = "below" if relation == "<" else "at most"
            raise rule_broken(
                self._path_of(field),
                left,
                f"must be {word} {self._path_of(other)} ({right})",
            )

    def _path_of(self, field: str) -> str:
        return f"{self.group_name}.{field}" if self.group_name else field


def rule_broken(path: str, value: object, text: str) -> PydanticCustomError:
    """The error of a rule between fields; ``ctx`` carries path and value for the report."""
    return PydanticCustomError(
        "rule_broken", "{path}: {text}", {"path": path, "value": value, "text": text}
    )
