"""`tidegate watch`, against replicas that misbehave on demand."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.cli.command import Done, finish, invoke, start
from tests.cli.fake_gateway import FakeGateway, Refusal


@pytest.fixture
async def gateway() -> AsyncIterator[FakeGateway]:
    async with FakeGateway(replicas=2) as gateway:
        yield gateway


def urls(gateway: FakeGateway) -> list[str]:
    return [part for url in gateway.urls for part in ("--url", url)]


def frames(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 3)])
async def test_the_exit_code_tells_how_it_ended(
    gateway: FakeGateway, status: str, code: int
) -> None:
    await gateway.append("42", "progress", {"progress": 0.5, "message": "half way"})
    await gateway.append("42", f"operation_{status}", {"status": status})
    done = await invoke("watch", "42", *urls(gateway))
    assert done.code == code, done
    assert "progress 50%" in done.out
    # What has completed ends at 100 %, the others where they were.
    percent = "100%" if status == "completed" else "50%"
    assert done.out.splitlines()[-1] == f"42: {status}, {percent}"


async def test_an_ended_one_is_at_100_percent_without_its_history(gateway: FakeGateway) -> None:
    """As from a gateway that was asked for no history: only its state tells."""
    state = {"type": "current_state", "cursor": "7-0", "data": {"status": "completed"}}
    gateway.replicas[0].refusals.append(Refusal(1000, frames=(state,)))
    done = await invoke("watch", "42", "--history", "none", *urls(gateway))
    assert done.code == 0
    assert done.out.splitlines() == ["42: completed", "42: completed, 100%"]


async def test_json_is_frames_and_nothing_else(gateway: FakeGateway) -> None:
    await gateway.append("42", "operation_failed", {"status": "failed"})
    done = await invoke("watch", "42", "--json", *urls(gateway))
    assert done.code == 1
    assert [frame["type"] for frame in frames(done)] == ["current_state", "operation_failed"]


async def test_history_and_after_reach_the_gateway(gateway: FakeGateway) -> None:
    await gateway.append("42", "operation_completed", {"status": "completed"}, ms=7)
    url = gateway.urls[0]
    await invoke("watch", "42", "--url", url, "--history", "all")
    await invoke("watch", "42", "--url", url, "--after", "5")
    assert gateway.replicas[0].asked == [
        "/ws/operations/42?history=all&acks=1",
        "/ws/operations/42?last_event_id=5-0&acks=1",
    ]


async def test_a_dead_replica_costs_nothing(gateway: FakeGateway) -> None:
    process = await start("watch", "42", "--json", *urls(gateway))
    assert process.stdout is not None
    ids = []
    await gateway.append("42", "progress", {"progress": 0.1})
    for line_type in ("current_state", "progress"):
        frame = json.loads(await process.stdout.readline())
        assert frame["type"] == line_type
        ids += [frame["id"]] if "id" in frame else []
    await gateway.replicas[0].die()
    for progress in (0.2, 0.3):
        await gateway.append("42", "progress", {"progress": progress})
    await gateway.append("42", "operation_completed", {"status": "completed"})
    done = await finish(process)
    assert done.code == 0, done
    ids += [frame["id"] for frame in frames(done) if "id" in frame]
    assert ids == [frame["id"] for frame in gateway.logs["42"]]
    assert gateway.replicas[1].asked == [f"/ws/operations/42?last_event_id={ids[0]}&acks=1"]
    assert gateway.urls[0] in done.err


async def test_a_draining_replica_is_left_for_the_next(gateway: FakeGateway) -> None:
    reconnect = {"type": "reconnect", "data": {"after_ms": 30, "reason": "draining"}}
    gateway.replicas[0].refusals.append(Refusal(1012, frames=(reconnect,)))
    await gateway.append("42", "operation_completed", {"status": "completed"})
    done = await invoke("watch", "42", *urls(gateway))
    assert done.code == 0, done
    assert "asked to reconnect: draining" in done.out
    assert len(gateway.replicas[1].asked) == 1


async def test_503_with_retry_after_is_left_for_the_next(gateway: FakeGateway) -> None:
    gateway.replicas[0].refusals.append(Refusal(http_status=503, headers={"Retry-After": "0"}))
    await gateway.append("42", "operation_completed", {"status": "completed"})
    assert (await invoke("watch", "42", *urls(gateway))).code == 0


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4404, 4410, 4429])
async def test_a_refusal_is_told_and_final(gateway: FakeGateway, code: int) -> None:
    error = {"type": "error", "data": {"code": "x", "message": "because of this"}}
    gateway.replicas[0].refusals.append(Refusal(code, frames=(error,)))
    done = await invoke("watch", "42", *urls(gateway))
    assert done.code == 2
    assert f"tidegate: refused ({code}): because of this" in done.err
    assert not gateway.replicas[1].asked


async def test_an_http_refusal_is_told_and_final(gateway: FakeGateway) -> None:
    gateway.replicas[0].refusals.append(Refusal(http_status=404, reason="nothing here"))
    done = await invoke("watch", "42", *urls(gateway))
    assert done.code == 2
    assert "answered 404: nothing here" in done.err


async def test_gap_skipped_and_stale_are_shown(gateway: FakeGateway) -> None:
    process = await start("watch", "42", "--url", gateway.urls[0])
    assert process.stdout is not None
    assert await process.stdout.readline() == b"42: not started yet\n"
    for frame in (
        {"type": "gap", "data": {"after": "1-0", "before": "5-0", "reason": "trimmed"}},
        {"type": "skipped", "data": {"count": 17}},
        {"type": "stale"},
        {"type": "live"},
    ):
        await gateway.send_all(frame)
    await gateway.append("42", "operation_completed", {"status": "completed"})
    done = await finish(process)
    assert "gap (trimmed): entries after 1-0 and before 5-0 may be missing" in done.out
    assert "skipped 17 updates" in done.out
    assert "stale: " in done.out
    assert "live again" in done.out


async def test_nobody_there_ends_when_patience_does() -> None:
    done = await invoke("watch", "42", "--url", "ws://127.0.0.1:1", "--patience", "0.3")
    assert done.code == 2
    assert "no replica answered" in done.err
    assert "connection refused" in done.err


async def test_ctrl_c_is_130(gateway: FakeGateway) -> None:
    process = await start("watch", "42", "--json", "--url", gateway.urls[0])
    assert process.stdout is not None
    await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    done = await finish(process)
    assert done.code == 130
    assert "Traceback" not in done.err


async def test_a_closed_pipe_ends_it_quietly(gateway: FakeGateway) -> None:
    process = await start("watch", "42", "--json", "--url", gateway.urls[0])
    assert process.stdout is not None
    await process.stdout.readline()
    transport = process._transport  # type: ignore[attr-defined]  # the only way to close our end
    transport.get_pipe_transport(1).close()

    async def write_until_it_ends() -> None:
        while process.returncode is None:
            await gateway.append("42", "progress", {"progress": 0.1})
            await asyncio.sleep(0.01)

    async with asyncio.timeout(30):
        await write_until_it_ends()
    assert process.stderr is not None
    assert b"Traceback" not in await process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a b",), "operation_id: must be"),
        (("42", "--after", "x"), "--after: must look like"),
        (("42", "--history", "some"), "--history must be"),
        (("42", "--url", "ftp://h"), "ftp://h is no ws:// or wss:// address"),
    ],
)
async def test_wrong_usage_is_2(arguments: tuple[str, ...], said: str) -> None:
    done = await invoke("watch", *arguments)
    assert done.code == 2
    assert said in done.err
