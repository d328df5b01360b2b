"""docs/architecture.md names the functions that one entry passes, in their order: one is followed.

A step of the walk is a call into a file on the page from outside of it. Anything else that happens
at the same time (a heartbeat, a sweep, a read that ends in the middle) makes another walk of it, so
a few entries are followed, and one of them has to go exactly the way that the page says.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import tidegate
from tests.harness.backend import Backend
from tests.harness.replica import Replica
from tests.servers.standalone import Server
from tidegate.gateway.fanout import Fanout

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"
SOURCE = Path(tidegate.__file__).parent
#: Followed at the most. The first that is not disturbed is enough.
ENTRIES = 20

Step = tuple[str, str]

BEGIN: Step = ("gateway/fanout.py", Fanout.begin.__qualname__)
WAKE: Step = ("gateway/fanout.py", Fanout.wake.__qualname__)
END: Step = ("gateway/fanout.py", Fanout.end.__qualname__)


def steps_on_the_page() -> list[Step]:
    walk = PAGE.read_text("utf-8").partition("<!-- walk -->")[2].partition("<!-- end -->")[0]
    return re.findall(r"^\| \d+ \| `([^`]+)` `([^`]+)` \|", walk, re.MULTILINE)


class Follower:
    """Notes the steps that are gone in this thread."""

    def __init__(self, page: list[Step]) -> None:
        self._files = {file for file, _ in page}
        self._named = set(page)
        self.steps: list[Step] = []

    @contextmanager
    def following(self) -> Iterator[None]:
        self.steps = []
        sys.setprofile(self._look)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        step = (file_of(frame.f_code), frame.f_code.co_qualname)
        caller = "" if frame.f_back is None else file_of(frame.f_back.f_code)
        is_private = step[1].rpartition(".")[2].startswith("_")
        if step in self._named or (step[0] in self._files and step[0] != caller and not is_private):
            self.steps.append(step)

    def walk(self, last: Step) -> list[Step]:
        """Up to the last step, without the reads behind which there was nothing to send."""
        end = self.steps.index(last) + 1 if last in self.steps else len(self.steps)
        walk: list[Step] = []
        begun = 0
        for step in self.steps[:end]:
            if step == BEGIN:
                begun = len(walk)
            if step == END and WAKE not in walk[begun:]:
                walk.pop(begun)
            else:
                walk.append(step)
        return walk


def file_of(code: CodeType) -> str:
    """Below the package; empty for all others."""
    file = Path(code.co_filename)
    return file.relative_to(SOURCE).as_posix() if file.is_relative_to(SOURCE) else ""


async def test_an_entry_passes_the_functions_that_the_page_names_in_that_order(
    redis_server: Server, backend: Backend
) -> None:
    page = steps_on_the_page()
    follower = Follower(page)
    walks: list[list[Step]] = []
    async with Replica(redis_server.url) as replica, replica.watch("42") as viewer:
        await viewer.state()
        for n in range(ENTRIES):
            with follower.following():
                entry_id = await backend.publish("42", n=n)
                assert await viewer.ids(1) == [entry_id]
            walks.append(follower.walk(page[-1]))
            if walks[-1] == page:
                break
        assert page in walks, walks[-1]
