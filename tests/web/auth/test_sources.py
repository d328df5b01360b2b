"""The sources that ask nobody, a real Redis hash, and a Python function."""

from __future__ import annotations

import asyncio
import json
import sys
import types
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.servers.standalone import Server
from tidegate.model.errors import SettingsError
from tidegate.model.ids import OperationId
from tidegate.model.settings import Settings
from tidegate.redis.address import parse_address
from tidegate.redis.operation_hash import FIELD_MAX_BYTES, OperationHash
from tidegate.redis.topology import Topology
from tidegate.web.auth import http_source
from tidegate.web.auth.callable_source import CallableSource, load_function
from tidegate.web.auth.fetch import Answer
from tidegate.web.auth.identity import ANONYMOUS, Identity
from tidegate.web.auth.sources import (
    Allowed,
    AnySource,
    ClaimsSource,
    HashSource,
    OperationSource,
)
from tidegate.web.problem import Forbidden, NotFound, Refused, SourceFailed

OPERATION = OperationId("job-1")
ANN = Identity("ann")


async def refusal(source: OperationSource, identity: Identity = ANN) -> Refused:
    with pytest.raises(Refused) as caught:
        await source.check(identity, None, OPERATION)
    return caught.value


async def test_none_lets_everybody_in() -> None:
    assert (await AnySource().check(ANONYMOUS, None, OPERATION)).state is None


async def test_claims_lists_operations() -> None:
    source = ClaimsSource()
    for covering in (("job-1",), ("x", "job-*"), ("*",)):
        identity = Identity("ann", operations=covering)
        assert (await source.check(identity, None, OPERATION)).state is None
    others: tuple[tuple[str, ...] | None, ...] = (None, (), ("job-2", "xjob-*"), ("JOB-1",))
    for listed in others:
        error = await refusal(source, Identity("ann", operations=listed))
        assert isinstance(error, Forbidden)
        assert error.close.code == 4403


# -- redis ---------------------------------------------------------------------------------------


@asynccontextmanager
async def asking_redis(server: Server, patience_s: float) -> AsyncIterator[HashSource]:
    times = {"connect_timeout_s": patience_s, "reply_timeout_s": patience_s}
    settings = Settings.model_validate({"redis": {"url": server.url, **times}})
    topology = Topology(parse_address(settings.redis), settings.redis)
    yield HashSource(OperationHash(topology, "operation:"), timeout_s=30, max_state_bytes=1000)
    await topology.close()


@pytest.fixture
async def source(any_server: Server) -> AsyncIterator[HashSource]:
    async with asking_redis(any_server, 30) as source:
        yield source


async def put(server: Server, **fields: str | bytes) -> None:
    mapping: dict[Any, Any] = {**fields}
    async with server.client() as client:
        await client.delete("operation:job-1")
        await client.hset("operation:job-1", mapping=mapping)


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"owner": "ann"}, None),
        ({"owner": "bob", "users": '["cid", "ann"]'}, None),
        ({"users": "*", "status": "running"}, {"status": "running"}),
        (
            {"users": "*", "status": "running", "state": '{"progress": 3, "status": "x"}'},
            {"status": "running", "progress": 3},
        ),
        ({"owner": "ann", "state": '{"a": [1]}', "private": "x"}, {"a": [1]}),
        ({"owner": "ann", "status": b"\xff"}, {"status": "\ufffd"}),
    ],
)
async def test_the_hash_names_who_may_watch(
    source: HashSource, any_server: Server, fields: dict[str, str], state: dict[str, Any] | None
) -> None:
    await put(any_server, **fields)
    assert (await source.check(ANN, None, OPERATION)).state == state


@pytest.mark.parametrize(
    "fields",
    [
        {"owner": "bob"},
        {"owner": "annx", "users": '["bob"]'},
        {"owner": "*"},
        {"users": '["*"]'},
        {"users": "[]", "state": "broken"},
        {"status": "running"},
    ],
)
async def test_and_who_is_not_named_may_not(
    source: HashSource, any_server: Server, fields: dict[str, str]
) -> None:
    await put(any_server, **fields)
    assert isinstance(await refusal(source), Forbidden)


async def test_no_hash_is_no_operation(source: HashSource, any_server: Server) -> None:
    assert isinstance(await refusal(source), NotFound)
    await put(any_server, other="x")  # none of our fields
    assert isinstance(await refusal(source), NotFound)


@pytest.mark.parametrize(
    "fields",
    [
        {"users": "ann"},
        {"users": '{"ann": 1}'},
        {"users": '"ann"'},
        {"owner": "ann", "state": "[1]"},
        {"owner": "ann", "state": "{"},
        {"owner": "ann", "state": json.dumps({"a": "x" * 1000})},
        {"owner": "ann", "state": "x" * (FIELD_MAX_BYTES + 1)},
    ],
)
async def test_a_broken_hash_lets_nobody_in(
    source: HashSource, any_server: Server, fields: dict[str, str]
) -> None:
    await put(any_server, **fields)
    error = await refusal(source)
    assert isinstance(error, SourceFailed)
    assert (error.close.code, error.retry) == (1013, True)
    assert "hash" not in str(error)


async def test_another_kind_of_key_and_a_redis_that_hangs(
    source: HashSource, any_server: Server
) -> None:
    async with any_server.client() as client:
        await client.set("operation:job-1", "x")
    assert isinstance(await refusal(source), SourceFailed)
    async with asking_redis(any_server, 0.5) as impatient:
        any_server.pause()
        try:
            assert isinstance(await refusal(impatient), SourceFailed)
        finally:
            any_server.resume()


# -- callable ------------------------------------------------------------------------------------


class Backend:
    """Answers with a value, or raises it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, user: str, operation: str) -> Any:
        self.asked.append((user, operation))
        if isinstance(self.answer, BaseException):
            raise self.answer
        if isinstance(self.answer, asyncio.Event):
            await self.answer.wait()
        return self.answer


def asking(answer: Any, timeout_s: float = 5) -> CallableSource:
    return CallableSource(Backend(answer), timeout_s=timeout_s, max_state_bytes=100)


@pytest.mark.parametrize("state", [None, {}, {"status": "running"}])
async def test_a_function_that_says_yes(state: dict[str, Any] | None) -> None:
    backend = Backend(state)
    source = CallableSource(backend, timeout_s=5, max_state_bytes=100)
    assert (await source.check(ANN, None, OPERATION)).state == state
    assert backend.asked == [("ann", "job-1")]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (PermissionError("secret reason"), Forbidden),
        (LookupError("job-1"), NotFound),
        (KeyError("job-1"), NotFound),
        (ValueError("secret reason"), SourceFailed),
        (OSError("secret reason"), SourceFailed),
        (False, SourceFailed),
        (True, SourceFailed),
        ("yes", SourceFailed),
        ([], SourceFailed),
        ({"a": object()}, SourceFailed),
        ({1: "a"}, SourceFailed),
        ({"a": "x" * 100}, SourceFailed),
    ],
)
async def test_a_function_that_does_not(answer: Any, kind: type[Refused]) -> None:
    error = await refusal(asking(answer))
    assert type(error) is kind
    assert "secret" not in str(error)


async def test_a_function_that_hangs_and_one_that_is_cancelled() -> None:
    assert isinstance(await refusal(asking(asyncio.Event(), timeout_s=0.02)), SourceFailed)
    task = asyncio.create_task(asking(asyncio.Event()).check(ANN, None, OPERATION))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_function_is_found_or_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("watch_rules")
    monkeypatch.setitem(sys.modules, "watch_rules", module)
    backend = Backend(None)
    vars(module).update(rule=backend.__call__, rules=backend, plain=lambda u, o: None, text="x")
    assert load_function("watch_rules:rule") == backend.__call__
    assert load_function("watch_rules:rules") is backend
    for name, words in (
        ("watch_rules:nothing", "cannot be imported"),
        ("no_such_module:rule", "cannot be imported: ModuleNotFoundError"),
        ("watch_rules:plain", "must be an async function"),
        ("watch_rules:text", "must be an async function"),
    ):
        with pytest.raises(SettingsError, match=words):
            load_function(name)


# -- who may cancel ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "granted"),
    [
        ({"may_cancel": True}, True),
        ({"may_cancel": 1}, False),
        ({"may_cancel": "true"}, False),
        ({"may_cancel": ["ann"]}, False),
        ({"may_cancel": None}, False),
        ({"status": "running"}, False),
        ({}, False),
    ],
)
async def test_only_true_grants_cancelling(state: dict[str, Any], granted: bool) -> None:
    async def may_watch(_user: str, _operation: str) -> dict[str, Any]:
        return state

    source = CallableSource(may_watch, timeout_s=20, max_state_bytes=1_000)
    assert (await source.check(ANN, None, OPERATION)).may_cancel is granted
    body = json.dumps(state).encode()
    assert http_source._verdict(Answer(200, body)) == Allowed(state, granted)


async def test_who_may_watch_is_not_granted_cancelling_by_that() -> None:
    assert not (await AnySource().check(ANONYMOUS, None, OPERATION)).may_cancel
    everything = Identity("ann", operations=("*",))
    assert not (await ClaimsSource().check(everything, None, OPERATION)).may_cancel
    assert http_source._verdict(Answer(204, b"")) == Allowed(None, may_cancel=False)
