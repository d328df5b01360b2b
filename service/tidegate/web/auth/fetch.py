"""A bounded HTTP GET, used for the JWKS and the `http` operation source.

The whole request has one deadline, connecting included. The size of the response and the number of
concurrent requests are limited, and each user has a share of the latter only. There are no
redirects (a token must not be sent to another host), no compression (a small response could unpack
to a large one) and no cookies (the response to one user must not affect the next). Every error is a
`FetchFailed`, whose text contains no headers.
"""

from __future__ import annotations

import asyncio
import ssl
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import NamedTuple

import httpx

from tidegate import __version__
from tidegate.concurrency.fair_turns import FairConcurrencyLimiter
from tidegate.model.errors import SettingsError, TidegateError
from tidegate.web.auth.credentials import Token

#: A write to a connection that broke a moment ago is a RuntimeError of uvloop 0.23.
_CLIENT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, RuntimeError)


class FetchFailed(TidegateError):
    """No answer, or one that is too large, too late, or not what was asked for."""


class AnswerUnusable(FetchFailed):
    """The server is well, but this answer is of no use."""


class NoCapacity(FetchFailed):
    """Nothing was sent: other requests had all turns, or this user's own had all of its share."""


class Answer(NamedTuple):
    """Status and body of an HTTP answer."""

    status: int
    body: bytes


class Fetcher:
    """Sends bounded GET requests.

    Args:
        timeout_s: longest time for one request, waiting for its turn included.
        max_bytes: longest body.
        max_requests: most requests at a time.
        share: how many of these one user may have; None: all.
        ca_file: PEM file of an authority to trust instead of the usual ones.
        use_proxy: heed HTTPS_PROXY and its like.

    Raises:
        SettingsError: `ca_file` cannot be used; `setting` names it.
    """

    def __init__(
        self,
        *,
        timeout_s: float,
        max_bytes: int,
        max_requests: int,
        share: int | None = None,
        ca_file: Path | None,
        use_proxy: bool,
        setting: str,
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        try:
            verify = ssl.create_default_context(cafile=ca_file)
        except OSError as error:  # ssl.SSLError is one
            text = error.strerror or "is not a PEM certificate"
            raise SettingsError((f"{setting}: {ca_file}: {text}",)) from None
        self._turns = FairConcurrencyLimiter(max_requests, share or max_requests)
        self._client = httpx.AsyncClient(
            verify=verify,
            timeout=None,  # noqa: S113 - the one deadline in `get` covers everything
            follow_redirects=False,
            trust_env=use_proxy,
            limits=httpx.Limits(
                max_connections=max_requests,
                max_keepalive_connections=8,
                # Given up before the other side does (uvicorn: after 5 s), or a request meets its
                # close.
                keepalive_expiry=2.0,
            ),
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=())),
            headers={
                "user-agent": f"tidegate/{__version__}",
                "accept": "application/json",
                "accept-encoding": "identity",
            },
        )

    async def get(self, url: str, token: Token | None = None, *, user: str = "") -> Answer:
        """GET `url`, with `token` as Bearer, in one of this user's turns.

        Raises:
            NoTurn, AnswerUnusable, FetchFailed
        """
        headers = {} if token is None else {"authorization": f"Bearer {token.text}"}
        was_sent = False
        try:
            async with asyncio.timeout(self._timeout_s), self._turns.turn(user):
                was_sent = True
                return await self._get(url, headers)
        except TimeoutError:
            if not was_sent:
                raise NoCapacity(f"no free request slot within {self._timeout_s:g} s") from None
            raise FetchFailed(f"no response within {self._timeout_s:g} s") from None
        except (*_CLIENT_ERRORS, OSError) as error:
            # Only the kind: an error's text may repeat what was sent.
            raise FetchFailed(f"failed with {type(error).__name__}") from None

    async def close(self) -> None:
        """Close idle connections."""
        await self._client.aclose()

    async def _get(self, url: str, headers: dict[str, str]) -> Answer:
        async with self._client.stream("GET", url, headers=headers) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise AnswerUnusable("the response is compressed although that was not requested")
            body = bytearray()
            async for part in response.aiter_raw():
                body += part
                if len(body) > self._max_bytes:
                    raise AnswerUnusable(f"the response has more than {self._max_bytes} bytes")
            return Answer(response.status_code, bytes(body))
