"""The whole endpoint, slots and control over processes, and the getter's answers."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from websockets.exceptions import ConnectionClosed

from tests.harness.backend import Backend
from tests.harness.names import NAMES
from tests.harness.viewer import Viewer
from tests.harness.waiting import until
from tests.legacy_contract.application import Application
from tests.servers.standalone import Server
from tidegate.embed import CancelOutcome
from tidegate.embed.environment import embedded_settings
from tidegate.embed.state import GetterFailed, NoSuchOperation, ask
from tidegate.model.errors import InvalidInput, SettingsError


async def test_serve_is_a_whole_endpoint(app: Application, backend: Backend) -> None:
    async with Viewer(f"ws://127.0.0.1:{app.port}/served/42") as viewer:
        await viewer.state()
        await viewer.ping()
        await viewer.say("no json")
        assert (await viewer.until(type="error"))["data"]["code"] == "bad_message"
        entry = await backend.publish("42", n=1)
        assert await viewer.ids(1) == [entry]
        await viewer.say(b"binary")
    await until(lambda: not app.guests)

    async with Viewer(f"ws://127.0.0.1:{app.port}/served/42") as viewer:
        await viewer.state()
        # Far more than two seconds' worth: a pause in between begins a new second.
        with suppress(ConnectionClosed):  # it is closed while they are sent
            for _ in range(1_000):
                await viewer.say('{"type":"ping"}')
        _, close = await viewer.rest()
        assert close.code == 4400
    await until(lambda: not app.guests)


async def test_an_application_cancels_for_its_users(app: Application, backend: Backend) -> None:
    missing = await app.manager.cancel("42", "ann")
    assert missing == (CancelOutcome.NO_STREAM, "")
    await app.manager.send_update("42", "operation_started", {"status": "running"})
    async with app.watch("42") as viewer:
        await viewer.state()
        first = await app.manager.cancel("42", "ann")
        assert first.outcome is CancelOutcome.REQUESTED
        asked = await viewer.until(type="cancel_requested")
        assert (asked["id"], asked["data"]["by"]) == (first.entry_id, "ann")
    again = await app.manager.cancel("42")
    assert again == (CancelOutcome.ALREADY_REQUESTED, first.entry_id)
    await app.manager.send_update("42", "operation_cancelled", {"status": "cancelled"})
    assert (await app.manager.cancel("42")).outcome is CancelOutcome.ALREADY_ENDED
    assert await backend.client.exists("{operation-progress:42}:cancel") == 0
    for operation, user in (("4*2", "ann"), ("42", ""), ("42", "x" * 257), ("42", "a\nb")):
        with pytest.raises(InvalidInput):
            await app.manager.cancel(operation, user)


async def test_ids_that_cannot_be(app: Application) -> None:
    for url in (app.url("4%2A2"), app.url("42", user="x" * 300), app.url("42", last_event_id="x")):
        async with Viewer(url) as viewer:
            assert (await viewer.next())["data"]["code"] == "bad_request"
            assert (await viewer.closed()).code == 4400
    await app.empty()


async def test_a_viewer_goes_on_in_another_process(app: Application, redis_server: Server) -> None:
    async with Application(redis_server.url, pod="app-2") as other:
        for n in range(5):
            await app.manager.send_update("42", "log", {"n": n})
        async with app.watch("42") as viewer:
            await viewer.state()
            ids = await viewer.ids(5)
        async with other.watch("42", last_event_id=ids[1]) as viewer:
            await viewer.state()
            assert await viewer.ids(3) == ids[2:]


async def test_the_oldest_gives_way_wherever_it_is(redis_server: Server) -> None:
    slots = {"limit": 1, "policy": "replace_oldest"}
    async with (
        Application(redis_server.url, slots=slots) as app,
        Application(redis_server.url, pod="app-2", slots=slots) as other,
        app.watch("42") as old,
    ):
        await until(lambda: app.engine._node.control.stats().listening, "it hears who is replaced")
        await old.state()
        async with other.watch("42") as new:
            await new.state()
            frames, close = await old.rest()
            assert [frame["data"]["code"] for frame in frames] == ["replaced"]
            assert close.code == 4409


async def test_no_slots_without_redis_if_the_policy_says_so(redis_server: Server) -> None:
    async with Application(redis_server.url, slots={"when_redis_away": "closed"}) as app:
        await redis_server.kill()
        await app.disconnected()
        async with app.watch("42") as viewer:
            frame = await viewer.next()
            assert (frame["type"], frame["data"]["retry"]) == ("error", True)
            assert (await viewer.closed()).code == 1013
        await app.empty()


async def test_an_administrator_reaches_the_viewers_of_an_application(
    app: Application, backend: Backend
) -> None:
    message = {"kind": "disconnect_user", "user": "ann", "reason": "blocked"}
    async with app.watch("42") as viewer, app.watch("42", user="bob") as other:
        await viewer.state()
        await other.state()

        async def heard() -> bool:
            say = ("SPUBLISH", NAMES.control, json.dumps(message))
            return bool(await backend.client.execute_command(*say))

        await until(heard, "the application listens")
        (frame,), close = await viewer.rest()
        assert (frame["data"]["code"], close.code) == ("blocked", 4403)
        await backend.publish("42", n=1)
        assert len(await other.ids(1)) == 1


@pytest.mark.parametrize("answer", [7, "text", object()])
async def test_a_getter_may_answer_with_anything(answer: object) -> None:
    assert await ask(lambda operation: answer, "42") == {}


@pytest.mark.parametrize("variable", ["TIDEGATE_TOPIC__LINGER_S", "TIDEGATE_TOPIC__LINGERS"])
def test_a_constant_is_no_variable(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=r"topic\.linger"):
        embedded_settings(None, None)


async def test_a_getter_that_fails() -> None:
    def raises(operation: str) -> object:
        raise KeyError(operation)

    with pytest.raises(GetterFailed, match="KeyError"):
        await ask(raises, "42")
    with pytest.raises(GetterFailed):
        await ask(lambda operation: {"lone": "\ud800"}, "42")
    with pytest.raises(NoSuchOperation):
        await ask(lambda operation: None, "42")
