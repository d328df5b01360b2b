"""The rules, as Prometheus' own tool sees them, and what people need beside each alert."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from tests.dashboards.board_files import boards, panels
from tests.dashboards.rules_files import ROOT, RULE_TESTS, alerts, rule_files

SEVERITIES = {"page", "ticket"}


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.real("promtool")
def test_promtool_finds_no_fault_in_the_rules() -> None:
    done = _promtool("check", "rules", "--lint-fatal", *map(str, rule_files()))

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real("promtool")
@pytest.mark.parametrize("path", sorted(RULE_TESTS.glob("*.yaml")), ids=lambda path: path.name)
def test_alerts_fire_where_they_should_and_nowhere_else(path: object) -> None:
    done = _promtool("test", "rules", str(path))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    wanted = {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    fires: set[tuple[str, str]] = set()
    silent: set[str] = set()
    for path in RULE_TESTS.glob("*.yaml"):
        for case in yaml.safe_load(path.read_text())["tests"]:
            # Silence before the `for` has passed is no case of its own.
            fired = {t["alertname"] for t in case["alert_rule_test"] if t["exp_alerts"]}
            for test in case["alert_rule_test"]:
                name = test["alertname"]
                fires |= {(name, e["exp_labels"]["severity"]) for e in test["exp_alerts"]}
                if name not in fired:
                    silent.add(name)

    assert fires == wanted
    assert silent == {name for name, _ in wanted}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']}")
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, dict[str, str]]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
    page = (ROOT / rule["annotations"]["runbook_url"]).read_text()
    assert page.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (Diagnosis|Mitigation)$", page, re.MULTILINE) == [
        "Diagnosis",
        "Mitigation",
    ]


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")}

    assert pages == {str(rule["alert"]) for rule in alerts()}


def test_runbooks_link_only_to_what_is_there() -> None:
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_runbooks_name_only_panels_that_are_there() -> None:
    titles = {panel["title"] for board in boards() for panel in panels(board)}
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        # Commands of Redis and names of settings do not begin with a single capital letter.
        named = set(re.findall(r"`([A-Z][a-z][^`]*)`", path.read_text()))
        assert named <= titles, path.name


def test_board_descriptions_name_only_runbooks_that_are_there() -> None:
    names = {str(rule["alert"]) for rule in alerts()}
    for path in (ROOT / "dashboards" / "boards").glob("*.json"):
        named = set(re.findall(r"\bTidegate[A-Z]\w+", path.read_text()))
        assert named <= names, path.name
