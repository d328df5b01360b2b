"""The operation source `callable`: a function provided by the operators of the gateway.

    async def may_watch(user: str, operation: str) -> dict | None

A dict is the state (with `"may_cancel": True` the user may also cancel the operation), None means
that there is none. PermissionError: the user may not watch; LookupError: no such operation.
Everything else (another exception, another value, a timeout) is a failure, and the viewer is
refused; in particular, False does not mean "may watch".
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import orjson

from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.web.auth.credentials import Token
from tidegate.web.auth.identity import Identity
from tidegate.web.auth.sources import Allowed, forbidden, says_may_cancel, source_failed
from tidegate.web.problem import NotFound, SourceFailed

MayWatch: TypeAlias = Callable[[str, str], Awaitable[dict[str, Any] | None]]


def load_function(name: str) -> MayWatch:
    """The function `module:function`.

    Raises:
        SettingsError: it cannot be imported, or is not async.
    """
    module, _, attribute = name.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # noqa: BLE001 - whatever someone's module does on import
        text = f"cannot be imported: {type(error).__name__}: {error}"
        raise SettingsError((f"source.function: {name} {text}",)) from None
    call = getattr(function, "__call__", None)  # noqa: B004 - an object may have an async one
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)):
        raise SettingsError((f"source.function: {name} must be an async function",))
    loaded: MayWatch = function
    return loaded


class CallableSource:
    """Asks a function."""

    def __init__(self, function: MayWatch, *, timeout_s: float, max_state_bytes: int) -> None:
        self._function = function
        self._timeout_s = timeout_s
        self._max_state_bytes = max_state_bytes

    async def check(
        self,
        identity: Identity,
        token: Token | None,  # noqa: ARG002 - the port's
        operation: OperationId,
    ) -> Allowed:
        """Whether the function lets this user watch."""
        try:
            async with asyncio.timeout(self._timeout_s):
                state = await self._function(identity.user, operation)
        except PermissionError:
            raise forbidden() from None
        except LookupError:
            raise NotFound from None
        except TimeoutError:
            raise _failed(operation, f"no response within {self._timeout_s:g} s") from None
        except Exception as error:
            # Someone else's code: its failure must not become ours. The text may hold anything.
            raise _failed(operation, type(error).__name__) from error
        if state is None:
            return Allowed()
        if not isinstance(state, dict):
            raise _failed(operation, f"returned {type(state).__name__}, not a dict or None")
        try:
            size = len(orjson.dumps(state))
        except TypeError:
            raise _failed(operation, "returned a state that is not JSON") from None
        if size > self._max_state_bytes:
            raise _failed(operation, f"returned more than {self._max_state_bytes} bytes")
        return Allowed(state, says_may_cancel(state))

    async def close(self) -> None:
        """Nothing is open."""


def _failed(operation: OperationId, why: str) -> SourceFailed:
    return source_failed("callable", operation, why)
