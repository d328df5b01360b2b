"""What a page was shown of its operations, before the judge of `tests/faults`.

The page sees one log from `current_state` to the end, over however many connections the client has
needed: to the judge that is a viewer with a single one. `stale` and `live` are not the judge's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tests.cli.browser import Browser
from tests.faults.judge import Closed, Event, Gap, Got, Opened, Rules, Skipped, State, judge
from tests.faults.publisher import Publisher
from tidegate.model.ids import parse_stream_id

#: All history is asked for, so that the page must have everything that was ever written.
RULES = Rules(from_start=True)
_COMPLAINTS = 20


def record(rows: Iterable[Sequence[Any]]) -> list[Event]:
    """Rows of `page.seen()`: type, id, epoch, data, cursor."""
    events: list[Event] = [Opened(0, None)]
    for type_, id_, *more in rows:
        if id_ is not None:
            events.append(Got(parse_stream_id(id_), more[1]["n"], type_))
        elif type_ == "current_state":
            events.append(State(parse_stream_id(more[2])))
        elif type_ == "gap":
            after, before = (more[1].get(name) for name in ("after", "before"))
            upto = None if before is None else parse_stream_id(before)
            events.append(Gap(parse_stream_id(after), upto, more[1]["reason"]))
        elif type_ == "skipped":
            events.append(Skipped(more[1]["count"]))
        elif type_ == "end":
            events.append(Closed(1000))
    return events


async def all_came(
    browser: Browser,
    publishers: Collection[Publisher],
    *,
    of: str = "page",
    gaps: int = 0,
    trimmed: bool = False,
) -> None:
    """All operations end on the page `of`; 0 lost, 0 twice, 0 out of order, and as many gaps.

    `trimmed`: what is missing in a stream was written, and a gap must stand for it.
    """
    await browser.until(f"{of}.are('ended')")
    seen = await browser.evaluate(f"{of}.seen()")
    wrong: list[str] = []
    for publisher in publishers:
        log = await (publisher.log_with(required=True) if trimmed else publisher.log())
        verdict = judge(record(seen[publisher.operation]), [log], RULES)
        wrong += [f"{publisher.operation}: {complaint}" for complaint in verdict.complaints]
        if verdict.gaps != gaps:
            wrong.append(f"{publisher.operation}: {verdict.gaps} gaps")
    assert not wrong, "\n".join(wrong[:_COMPLAINTS])


async def grows(browser: Browser, operation: str, *, of: str = "page", by: int = 3) -> None:
    """More comes than there is now."""
    count = f"{of}.ids({operation!r}).length"
    now = await browser.evaluate(count)
    await browser.until(f"{count} > {now + by}")
