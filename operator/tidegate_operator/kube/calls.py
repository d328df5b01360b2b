"""One call of the API: counted, bounded in time, and its failure one of our own errors."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
from lightkube.core.exceptions import ApiError, ConfigError, LoadResourceError

from tidegate_operator.kube.errors import ApiUnreachable, error_of


class Calls:
    """The calls of one client."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        #: Calls by (verb, resource, answer): `ok`, the HTTP status, `timeout`, `unreachable`.
        self.counts: Counter[tuple[str, str, str]] = Counter()

    @asynccontextmanager
    async def one(self, verb: str, resource: str) -> AsyncIterator[None]:
        """Count a call, bound its time, and turn what goes wrong into a `KubeError`."""
        answer = "ok"
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except ApiError as error:
            answer = str(error.status.code or 0)
            raise error_of(verb, resource, error.status.code or 0, str(error)) from None
        except httpx2.HTTPStatusError as error:
            answer = str(error.response.status_code)
            text = error.response.reason_phrase
            raise error_of(verb, resource, error.response.status_code, text) from None
        except TimeoutError:
            answer = "timeout"
            raise ApiUnreachable(
                f"no answer to {verb} {resource} in {self._timeout_s:g} s"
            ) from None
        except (httpx2.HTTPError, OSError) as error:
            answer = "unreachable"
            text = str(error) or type(error).__name__
            raise ApiUnreachable(f"{verb} {resource}: {text}") from None
        except (ConfigError, LoadResourceError) as error:
            answer = "unreachable"
            raise ApiUnreachable(f"{verb} {resource}: {error}") from None
        except asyncio.CancelledError:
            answer = "cancelled"
            raise
        finally:
            self.counts[(verb, resource, answer)] += 1
