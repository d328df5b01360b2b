"""What this operator may serve, by its own settings: a Gateway says what is wanted, and whoever may
write one does not decide by that what the operator's rights are used for. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from tidegate.model.errors import TidegateError
from tidegate_operator.model.gateway import GatewaySpec
from tidegate_operator.settings import OperatorSettings


class OutOfScope(TidegateError):
    """This Gateway is left alone as a whole.

    Attributes:
        reason: one word for its conditions.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Scope(NamedTuple):
    """None: any.

    Attributes:
        gateway: name of the only Gateway that is served; others are another operator's.
        target: name of the only Deployment that may be scaled.
        key_prefix: what `spec.streams.prefix` must begin with.
    """

    gateway: str | None = None
    target: str | None = None
    key_prefix: str | None = None

    @classmethod
    def of(cls, settings: OperatorSettings) -> Scope:
        """As the settings of the process say."""
        return cls(settings.gateway, settings.target, settings.key_prefix)

    def serves(self, gateway: str) -> bool:
        """Whether a Gateway of this name is this operator's."""
        return self.gateway in (None, gateway)

    def check(self, spec: GatewaySpec) -> None:
        """Raises OutOfScope with what to do."""
        if self.target not in (None, spec.target.name):
            raise OutOfScope(
                "TargetNotAllowed",
                f"spec.target.name: this operator scales the Deployment {self.target} and no other "
                f"one, so not {spec.target.name}: delete this Gateway, and make one for "
                f"{self.target}, or run another operator (its setting is target)",
            )
        if self.key_prefix is not None and not spec.streams.prefix.startswith(self.key_prefix):
            raise OutOfScope(
                "PrefixNotAllowed",
                f"spec.streams.prefix: this operator sweeps streams whose names begin with "
                f"{self.key_prefix}, so not {spec.streams.prefix}: change it, or the operator's "
                "setting key_prefix (with the chart both follow settings.redis.key_prefix)",
            )
