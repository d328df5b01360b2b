"""What supervisor and worker say to each other, and what a worker changes of the settings."""

from __future__ import annotations

import pickle
import socket

from tidegate.model.settings import Settings
from tidegate.runtime.worker import worker_settings
from tidegate.runtime.worker_channel import (
    Message,
    Request,
    Response,
    Start,
    Stop,
    WorkerChannel,
)


async def pair() -> tuple[WorkerChannel, WorkerChannel]:
    ours, theirs = socket.socketpair()
    return await WorkerChannel.open(ours), await WorkerChannel.open(theirs)


async def test_messages_arrive_as_they_were_sent() -> None:
    supervisor, worker = await pair()
    messages: list[Message] = [
        Start(2, [b"/some\xffwhere"], pickle.dumps(Settings())),
        Request(7, "GET", "/debug/état", b"/debug/%C3%A9tat", b"limit=1", [(b"host", b"\xff")]),
        Stop(hurry=True),
    ]
    for message in messages:
        supervisor.send(message)
    assert [await worker.receive() for _ in messages] == messages
    answer = Response(7, 200, [(b"content-type", b"text/plain")], b"x" * 200_000)
    worker.send(answer)
    assert await supervisor.receive() == answer
    supervisor.close()
    worker.close()


async def test_the_end_of_one_side_is_noticed_by_the_other() -> None:
    supervisor, worker = await pair()
    worker.send(Response(1, 200, [], b""))
    worker.close()
    assert isinstance(await supervisor.receive(), Response)
    assert await supervisor.receive() is None
    supervisor.close()
    supervisor.send(Stop(hurry=False))  # to nobody
    await supervisor.flush()


async def test_half_a_message_and_one_of_an_absurd_length_are_the_end() -> None:
    for data in (b"\0\0\0\xff{", b"\xff\xff\xff\xff"):
        ours, theirs = socket.socketpair()
        channel = await WorkerChannel.open(ours)
        with theirs:
            theirs.sendall(data)
        assert await channel.receive() is None
        channel.close()


def test_a_worker_has_its_own_name_and_its_part_of_what_others_absorb() -> None:
    settings = Settings.model_validate(
        {"server": {"pod": "gate-1", "workers": 4}, "drain": {"absorb_per_s": 1000}}
    )
    of_two = worker_settings(settings, 2)
    assert of_two.server.pod == "gate-1/2"
    assert of_two.server.workers == 4
    assert of_two.drain.absorb_per_s == 250
    assert of_two.replica == settings.replica
    assert settings.server.pod == "gate-1"
