"""What ends the work on an operation that a viewer has asked to cancel."""

from __future__ import annotations

from tidegate.model.errors import TidegateError


class OperationCancelled(TidegateError):
    """A viewer has asked to cancel the operation.

    Attributes:
        operation: its id.
    """

    def __init__(self, operation: str) -> None:
        super().__init__(f"operation {operation} was cancelled by a viewer")
        self.operation = operation
