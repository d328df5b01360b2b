"""The boards: what the source makes, well formed, and with words for whoever is woken up."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from dashboards.src.__main__ import stale, texts
from tests.dashboards.board_files import boards, marks, panels, queries
from tests.dashboards.rules_files import BOARDS

UIDS = {
    *("tidegate-overview", "tidegate-delivery", "tidegate-connections"),
    *("tidegate-redis", "tidegate-drain", "tidegate-operator"),
}
COLUMNS = 24
EACH = [pytest.param(board, id=board["uid"]) for board in boards()]


def test_the_files_are_what_the_source_makes() -> None:
    assert stale() == [], "run: python -m dashboards.src"


def test_the_source_makes_the_same_twice() -> None:
    assert texts() == texts()


def test_a_change_of_a_file_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.src.__main__.FOLDER", tmp_path)
    for path, text in texts().items():
        path.write_text(text)
    assert stale() == []

    changed, extra = tmp_path / "redis.json", tmp_path / "old.json"
    changed.write_text(changed.read_text().replace("p99", "p98", 1))
    extra.write_text("{}")

    assert stale() == [extra, changed]


def test_uids_never_change() -> None:
    """Links and bookmarks depend on them."""
    assert {board["uid"] for board in boards()} == UIDS
    assert all(f"tidegate-{path.stem}" in UIDS for path in BOARDS.glob("*.json"))


@pytest.mark.parametrize("board", EACH)
def test_the_sdk_reads_every_board_back(board: dict[str, Any]) -> None:
    """Its models write again what they have read, so they know each field that is in the file."""
    read = Dashboard.from_json(board)
    again = json.loads(json.dumps(read, cls=JSONEncoder))
    # The two fields of annotations that the models of the SDK do not have.
    for annotation in board["annotations"]["list"]:
        assert annotation.pop("titleFormat")
        assert annotation.pop("step") == "15s"

    assert again == board


@pytest.mark.parametrize("board", EACH)
def test_panel_ids_differ_and_no_panels_overlap(board: dict[str, Any]) -> None:
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(ids) == list(range(1, len(ids) + 1))

    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS
    for one, other in combinations(board["panels"], 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])


def _overlap(a: dict[str, int], b: dict[str, int]) -> bool:
    return (
        a["x"] < b["x"] + b["w"]
        and b["x"] < a["x"] + a["w"]
        and a["y"] < b["y"] + b["h"]
        and b["y"] < a["y"] + a["h"]
    )


@pytest.mark.parametrize("board", EACH)
def test_every_data_source_is_the_variable(board: dict[str, Any]) -> None:
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    assert board["templating"]["list"][0]["name"] == "datasource"
    assert board["templating"]["list"][0]["type"] == "datasource"

    found = list(_values(board, "datasource"))
    assert len(found) > len(panels(board))
    assert all(source == wanted for source in found)


def _values(node: Any, key: str) -> Any:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == key:
                yield value
            yield from _values(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _values(value, key)


@pytest.mark.parametrize("board", EACH)
def test_variables_have_an_all_that_takes_what_has_no_label(board: dict[str, Any]) -> None:
    chosen = [v for v in board["templating"]["list"] if v["type"] == "query"]

    assert [v["name"] for v in chosen][:2] == ["namespace", "release"]
    for variable in chosen:
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"
        assert variable["current"]["value"] == "$__all"


@pytest.mark.parametrize("board", EACH)
def test_every_panel_says_what_to_do_and_in_which_unit(board: dict[str, Any]) -> None:
    for panel in panels(board):
        where = f"{board['uid']} / {panel['title']}"
        assert len(panel["description"].split()) >= 12, where
        assert panel["targets"], where
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == [chr(ord("A") + place) for place in range(len(letters))], where
        if panel["type"] == "heatmap":
            assert panel["options"]["yAxis"]["unit"], where
        else:
            assert panel["fieldConfig"]["defaults"]["unit"], where
    assert board["description"]


def test_titles_on_a_board_and_kind_differ() -> None:
    for board in boards():
        titles = [(panel["type"], panel["title"]) for panel in panels(board)]
        assert len(titles) == len(set(titles)), board["uid"]


def test_every_query_obeys_the_variables() -> None:
    for asked in [*queries(), *marks()]:
        selectors = re.findall(r"[a-z_:0-9]+\{([^}]*)\}", asked.expr)
        assert selectors, asked
        for selector in selectors:
            assert selector.startswith('namespace=~"$namespace",release=~"$release"'), asked


def test_every_rate_is_over_a_window_that_fits_the_scrape_interval() -> None:
    for asked in queries():
        for window in re.findall(r"\[([^\]]+)\]", asked.expr):
            assert window in ("$__rate_interval", "$__range", "1h"), asked


@pytest.mark.parametrize("board", EACH)
def test_deploys_and_drains_are_marked(board: dict[str, Any]) -> None:
    assert [a["name"] for a in board["annotations"]["list"]] == ["Deploys", "Drains"]
