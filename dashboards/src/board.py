"""One board: rows of panels under the same variables, annotations and links, and its JSON.

Panels are numbered in their order and placed left to right, 24 columns to a line. A row whose
panels do not fill their lines is refused: a gap in a board is a panel somebody forgot.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.src.panels import SOURCE, Panel
from dashboards.src.queries import SELECTED, SELECTED_OPERATOR

COLUMNS = 24
TAG = "tidegate"


@dataclass(frozen=True, slots=True)
class Row:
    """A title, and the panels under it, which fill whole lines."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True, slots=True)
class Board:
    """`name` is its file and, after `tidegate-`, its uid: links and bookmarks depend on it."""

    name: str
    title: str
    description: str
    rows: Sequence[Row]
    #: The metric whose labels fill the variables.
    variables_of: str = "tidegate_build_info"
    has_pods: bool = field(default=True)

    @property
    def uid(self) -> str:
        """The uid of the board in Grafana."""
        return f"tidegate-{self.name}"

    def to_json(self) -> str:
        """The file's text. Raises ValueError when panels leave a hole."""
        text = json.dumps(self._built(), cls=JSONEncoder, indent=2, ensure_ascii=False)
        return f"{text}\n"

    def _built(self) -> model.Dashboard:
        board = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .editable()
            .tooltip(model.DashboardCursorSync.CROSSHAIR)
            .refresh("10s")
            .time("now-1h", "now")
            .timezone("browser")
            .link(_links())
        )
        for variable in self._variables():
            board.with_variable(variable)
        where = SELECTED if self.has_pods else SELECTED_OPERATOR
        for annotation in _annotations(where):
            board.annotation(annotation)
        for row in self.rows:
            board.with_row(dashboard.Row(row.title))
            for panel in row.panels:
                board.with_panel(panel)
        built = board.build()
        _number(built)
        _check_lines(built)
        return built

    def _variables(self) -> list[Any]:
        source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        where = f"{self.variables_of}"
        chosen = [_labels("namespace", "Namespace", where)]
        chosen.append(_labels("release", "Release", f'{where}{{namespace=~"$namespace"}}'))
        if self.has_pods:
            inner = 'namespace=~"$namespace",release=~"$release"'
            chosen.append(_labels("pod", "Pod", f"{where}{{{inner}}}"))
        return [source, *chosen]


def _labels(name: str, label: str, metric: str) -> dashboard.QueryVariable:
    """A variable with the values of a label; "All" is `.*`, so that series without it count too."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(model.VariableOption(selected=True, text="All", value="$__all"))
    )


class _PrometheusAnnotation(model.AnnotationQuery):
    """Marks where an expression has a value; the SDK's class has no place for the words."""

    def __init__(self, name: str, color: str, expr: str, words: str) -> None:
        super().__init__(name=name, datasource=SOURCE, icon_color=color, expr=expr)
        self._words = words

    def to_json(self) -> dict[str, object]:
        return {**super().to_json(), "titleFormat": self._words, "step": "15s"}


class _Built(dashboard.AnnotationQuery):
    """The builder of an annotation that is built already."""

    def __init__(self, annotation: model.AnnotationQuery) -> None:
        super().__init__()
        self._internal = annotation


def _annotations(where: str) -> list[dashboard.AnnotationQuery]:
    builds = f"count by (release, version) (tidegate_build_info{{{where}}})"
    before = builds.replace("})", "} offset 5m)")
    return [
        _Built(
            _PrometheusAnnotation(
                "Deploys", "blue", f"{builds} unless {before}", "Version {{version}} is running"
            )
        ),
        _Built(
            _PrometheusAnnotation(
                "Drains",
                "orange",
                f"tidegate_draining{{{where}}} == 1",
                "{{pod}} {{instance}} is draining",
            )
        ),
    ]


def _links() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("Tidegate")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )


def _number(built: model.Dashboard) -> None:
    """Ids for panels, letters for queries."""
    for number, panel in enumerate(built.panels or (), start=1):
        panel.id_val = number
        if isinstance(panel, model.Panel):
            for place, query in enumerate(panel.targets or ()):
                query.ref_id = chr(ord("A") + place)  # type: ignore[attr-defined]


def _check_lines(built: model.Dashboard) -> None:
    """Raises ValueError unless every line of panels is full."""
    lines: dict[int, int] = {}
    for panel in built.panels or ():
        if panel.grid_pos is not None:
            lines[panel.grid_pos.y] = lines.get(panel.grid_pos.y, 0) + panel.grid_pos.w
    holes = [y for y, width in lines.items() if width != COLUMNS]
    if holes:
        raise ValueError(f"{built.title}: lines at y = {holes} are not {COLUMNS} columns wide")
