"""Why somebody may not watch: one class for each close code of admission.

Refused
├── Unauthenticated    4401, or 1013 when it cannot be told now (keys not fetched)
├── Forbidden          4403
├── NotFound           4404
└── SourceFailed       1013: the operation source gave no answer, so nobody is let in

`code` goes into the `error` frame, `close` is the row of the table. The text is shown to the
viewer: it never repeats a token, a claim, or anything else that came with the request.
"""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.model import close_codes
from tidegate.model.close_codes import CloseCode
from tidegate.model.errors import TidegateError


class Refused(TidegateError):
    """Base of the refusals.

    Attributes:
        code: short name of the reason, for the `error` frame and the counter.
        close: how the connection ends.
        retry: whether the same request may succeed later.
    """

    def __init__(self, code: str, text: str, close: CloseCode, *, retry: bool = False) -> None:
        super().__init__(text)
        self.code = code
        self.close = close
        self.retry = retry
        #: More for programs, beside the text.
        self.details: Mapping[str, object] = {}


class Unauthenticated(Refused):
    """The token is missing, wrong or expired; with `retry`, it could not be checked just now."""

    def __init__(self, code: str, text: str, *, retry: bool = False) -> None:
        close = close_codes.OVERLOADED if retry else close_codes.UNAUTHENTICATED
        super().__init__(code, text, close, retry=retry)


class Forbidden(Refused):
    """The user, or the page that connects for the user, may not watch this."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code, text, close_codes.FORBIDDEN)


class NotFound(Refused):
    """The operation source knows no such operation."""

    def __init__(self) -> None:
        super().__init__("not_found", "there is no such operation", close_codes.NOT_FOUND)


class SourceFailed(Refused):
    """Nobody could say whether this user may watch; `detail` is for the log, not the viewer."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "source_failed",
            "whether you may watch cannot be told now; come back later",
            close_codes.OVERLOADED,
            retry=True,
        )
        self.detail = detail
