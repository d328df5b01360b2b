"""How reading from Kubernetes and writing there can fail.

KubeError
├── ApiNotFound       no such object, or no such kind in this cluster
├── ApiConflict       the object changed since it was read: look again
├── ApiForbidden      the Role does not allow it
├── ApiRejected       the API server found something wrong with what was sent
└── ApiUnreachable    no answer, or one that asks to come back later
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from tidegate.model.errors import TidegateError


class KubeError(TidegateError):
    """A call of the Kubernetes API did not do what was asked.

    Attributes:
        reason: the word of a condition for it; part of what users and programs read.
        code: HTTP status; 0 without an answer.
    """

    reason: ClassVar[str] = "KubeError"

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class ApiNotFound(KubeError):
    """There is no such object, or the cluster does not know its kind."""

    reason = "NotFound"


class ApiConflict(KubeError):
    """The object is not what it was when it was read, or exists already."""

    reason = "Conflict"


class ApiForbidden(KubeError):
    """The operator's Role does not allow this."""

    reason = "Forbidden"


class ApiRejected(KubeError):
    """The API server found something wrong with the request."""

    reason = "Refused"


class ApiUnreachable(KubeError):
    """No usable answer from the API server; another time, maybe."""

    reason = "Unreachable"


def error_of(verb: str, resource: str, code: int, text: str) -> KubeError:
    """The error for an answer with this HTTP status."""
    kind: Callable[[str, int], KubeError]
    match code:
        case 401 | 403:
            kind = ApiForbidden
        case 404:
            kind = ApiNotFound
        case 409:
            kind = ApiConflict
        case 400 | 405 | 406 | 413 | 415 | 422:
            kind = ApiRejected
        case _:
            kind = ApiUnreachable
    return kind(f"{verb} {resource}: {text or code}", code)
