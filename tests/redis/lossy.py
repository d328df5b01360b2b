"""A topology whose replies get lost: the command reaches the real server, now or later, and its
sender is told that the connection broke.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from redis.exceptions import ConnectionError as Broken

from tidegate.model.settings import RedisSettings
from tidegate.redis.address import parse_address
from tidegate.redis.topology import Topology


class Fate(enum.Enum):
    """What happens to the commands that are sent from now on."""

    ANSWERED = "as ever"
    REPLY_LOST = "executed, and nobody is told"
    LATE = "executed when `arrive` is called, behind whatever is sent until then"
    LOST = "never executed"


class LossyTopology(Topology):
    """Its clients' commands meet their `fate`, pipelines as a whole."""

    def __init__(self, settings: RedisSettings) -> None:
        super().__init__(parse_address(settings), settings)
        self.fate = Fate.ANSWERED
        self._late: list[tuple[Any, ...]] = []

    @property
    def client(self) -> Any:
        return _Client(super().client, self)

    async def meet(self, real: Any, commands: list[tuple[Any, ...]]) -> list[Any]:
        match self.fate:
            case Fate.LATE:
                self._late += commands
                raise Broken("late")
            case Fate.LOST:
                raise Broken("lost")
        replies = await _send(real, commands)
        if self.fate is Fate.REPLY_LOST:
            raise Broken("reply lost")
        return replies

    async def arrive(self) -> int:
        """What was late is executed now; how many commands those were."""
        late, self._late = self._late, []
        # The server forgets scripts; a script that it does not know is simply not executed.
        await _send(super().client, late)
        return len(late)


async def _send(real: Any, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    pipeline = real.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies: list[Any] = await pipeline.execute(raise_on_error=False)
    return replies


class _Client:
    def __init__(self, real: Any, topology: LossyTopology) -> None:
        self._real = real
        self._topology = topology

    def pipeline(self, **_: Any) -> _Pipeline:
        return _Pipeline(self._real, self._topology)

    async def evalsha(self, *args: Any) -> Any:
        return _raised(await self._topology.meet(self._real, [("EVALSHA", *args)]))

    async def eval(self, *args: Any) -> Any:
        return _raised(await self._topology.meet(self._real, [("EVAL", *args)]))


class _Pipeline:
    def __init__(self, real: Any, topology: LossyTopology) -> None:
        self._real = real
        self._topology = topology
        self._commands: list[tuple[Any, ...]] = []

    def execute_command(self, *command: Any) -> None:
        self._commands.append(command)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        replies = await self._topology.meet(self._real, self._commands)
        return [_raised([reply]) for reply in replies] if raise_on_error else replies


def _raised(replies: list[Any]) -> Any:
    if isinstance(replies[0], Exception):
        raise replies[0]
    return replies[0]
