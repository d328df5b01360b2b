"""The connection that nobody is told of: one for all, so nothing may stay in it."""

from __future__ import annotations

from tidegate.core.visit import NO_VISIT, Stage, Unseen, Visit, VisitKind
from tidegate.model import close_codes


def test_nothing_of_one_connection_is_left_for_the_next() -> None:
    before = {name: getattr(NO_VISIT, name) for name in Visit.__slots__}
    visit = Unseen().came(VisitKind.MULTIPLEX, [])
    assert visit is NO_VISIT
    visit.about("42")
    visit.enter(Stage.LIVE)
    part = visit.fork("42", 1.0)
    part.wrote(3, 100)
    visit.join(part)
    visit.wrote(3, 100)
    visit.told(1000, "viewer_left")
    visit.closed(close_codes.SLOW, "slow")
    assert {name: getattr(NO_VISIT, name) for name in Visit.__slots__} == before


def test_the_parts_of_a_visit_are_counted_when_they_end() -> None:
    visit = Visit(VisitKind.MULTIPLEX, 0.0)
    part = visit.fork("42", 1.0)
    assert (part.operation, visit.operation) == ("42", "")
    part.wrote(3, 100)
    assert visit.frames == 0
    visit.join(part)
    assert (visit.frames, visit.size_bytes) == (3, 100)
