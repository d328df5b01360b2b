"""How reading from Kubernetes and writing there can fail.

KubeError
├── NotFound       no such object, or no such kind in this cluster
├── Conflict       the object changed since it was read: look again
├── Forbidden      the Role does not allow it
├── Refused        the API server found something wrong with what was sent
└── Unreachable    no answer, or one that asks to come back later
"""

from __future__ import annotations

from collections.abc import Callable

from tidegate.model.errors import TidegateError


class KubeError(TidegateError):
    """A call of the Kubernetes API did not do what was asked.

    Attributes:
        code: HTTP status; 0 without an answer.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class NotFound(KubeError):
    """There is no such object, or the cluster does not know its kind."""


class Conflict(KubeError):
    """The object is not what it was when it was read, or exists already."""


class Forbidden(KubeError):
    """The operator's Role does not allow this."""


class Refused(KubeError):
    """The API server found something wrong with the request."""


class Unreachable(KubeError):
    """No usable answer from the API server; another time, maybe."""


def error_of(verb: str, resource: str, code: int, text: str) -> KubeError:
    """The error for an answer with this HTTP status."""
    kind: Callable[[str, int], KubeError]
    match code:
        case 401 | 403:
            kind = Forbidden
        case 404:
            kind = NotFound
        case 409:
            kind = Conflict
        case 400 | 405 | 406 | 413 | 415 | 422:
            kind = Refused
        case _:
            kind = Unreachable
    return kind(f"{verb} {resource}: {text or code}", code)
