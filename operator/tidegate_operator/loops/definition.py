"""Whether the API server serves Gateways; without their definition there is nothing but to wait.

It may come after the operator (tools that apply everything in their own order), and be deleted
while it runs, which takes all Gateways with it.
"""

from __future__ import annotations

import structlog

from tidegate_operator.model.gateway import GROUP, PLURAL

log = structlog.get_logger(__name__)

NAME = f"{PLURAL}.{GROUP}"
MISSING = (
    f"the CustomResourceDefinition {NAME} is not installed; waiting for it: "
    "tidegate-operator crd | kubectl apply --server-side --field-manager=helm -f -"
)


class DefinitionState:
    """What the last list of Gateways told of it. Each change is logged once."""

    def __init__(self) -> None:
        self.is_missing = False

    def lost(self) -> None:
        """The API server does not know Gateways."""
        if not self.is_missing:
            log.error("definition missing", reason=MISSING)
        self.is_missing = True

    def found(self) -> None:
        """It knows them."""
        if self.is_missing:
            log.info("definition installed", name=NAME)
        self.is_missing = False
