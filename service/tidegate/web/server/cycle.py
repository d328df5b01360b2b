"""One HTTP request and its answer: uvicorn's, for clients of HTTP/1.0 as well.

They know no chunks (RFC 9112 section 7.1), so an answer without a length ends with its connection.
uvicorn 0.54 sends them chunks all the same.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Cycle(RequestResponseCycle):
    """uvicorn ends the connection behind every answer to HTTP/1.0 by itself."""

    def disconnect(self) -> None:
        """The client is gone, or is not listened to any more."""
        if not self.response_complete:
            self.disconnected = True
            self.message_event.set()

    async def send(self, message: Any) -> None:
        if self.scope["http_version"] != "1.1":
            self.chunked_encoding = False
            # What is sent is what was said to come.
            self.expected_content_length = len(message.get("body", b""))
        await super().send(message)
