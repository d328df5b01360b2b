"""What ``tidegate watch`` shows on a terminal."""

import io
import time

from rich.console import Console

from tests.client.test_watching import A, B, entry, state, watching
from tidegate.cli.watch_views import LiveView, describe


def test_the_live_view_shows_the_bar_the_replica_and_what_went_wrong() -> None:
    w = watching()
    view = LiveView(w)
    console = Console(width=100, record=True, file=io.StringIO())
    w.received(state(), 0.0)
    w.received(entry("1000-0", progress=0.5, message="half [bold]way"), 1.25)
    console.print(view.render())
    first = console.export_text()
    assert "50% running half [bold]way" in first
    assert f"1 entries · replica {A} · lag 250 ms" in first

    w.received({"type": "gap", "data": {"reason": "trimmed"}}, 2.0)
    w.received({"type": "stale"}, 2.0)
    w.closed(1006)
    console.print(view.render())
    second = console.export_text()
    assert "running (stale)" in second
    assert f"connecting to {B}" in second
    assert "1 reconnects · 1 gaps" in second


def test_the_age_of_history_is_not_called_lag_and_nothing_has_begun_before() -> None:
    w = watching()
    view = LiveView(w)
    console = Console(width=120, record=True, file=io.StringIO())
    now_s = float(int(time.time()))
    w.received(state(), now_s)
    console.print(view.render())
    assert "not started yet" in console.export_text()

    w.received(entry(f"{int(now_s - 7200) * 1000}-0", progress=0.5), now_s)
    console.print(view.render())
    shown = console.export_text()
    assert "running" in shown
    assert "lag" not in shown
    assert "last entry 2 h ago" in shown

    w.received(entry(f"{int((now_s + 1) * 1000)}-0", progress=0.6), now_s + 1.5)
    console.print(view.render())
    assert "lag 500 ms" in console.export_text()

    w.received(entry(f"{int((now_s + 2) * 1000)}-0", status="completed"), now_s + 3)
    console.print(view.render())
    assert "100% completed" in console.export_text()


def test_half_a_surrogate_pair_can_be_shown() -> None:
    """Python's name for an undecodable file ended the command with a UnicodeEncodeError."""
    w = watching()
    w.received(state(), 0.0)
    frame = entry("1000-0", file="\udcff", message="at \udcff", status="odd\udcff")
    w.received(frame, 1.0)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(LiveView(w).render())
    for text in (console.export_text(), describe(frame, w), w.closed(1000).text):
        assert {"?", "\ufffd"} & set(text.encode().decode())
