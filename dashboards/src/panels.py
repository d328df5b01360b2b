"""The kinds of panels that the boards have, each with a title, a description and its unit.

The description is for the engineer on call: what is shown, and what to do when the value is bad.
"""

from __future__ import annotations

from typing import NamedTuple

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    HeatmapCellLayout,
    LegendDisplayMode,
    LegendPlacement,
    ScaleDistribution,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

#: The data source is a variable, so that a board finds its Prometheus in any Grafana.
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEIGHT = 8
STAT_HEIGHT = 4

Panel = Builder[model.Panel]


class Query(NamedTuple):
    """An expression, and what its lines are called."""

    expr: str
    legend: str = ""


Limits = tuple[model.Threshold, ...]


def above(warning: float | None, critical: float | None = None) -> Limits:
    """Yellow from `warning` on, red from `critical` on; None leaves a colour out."""
    steps = ((warning, "yellow"), (critical, "red"))
    wanted = [
        model.Threshold(value=value, color=color) for value, color in steps if value is not None
    ]
    return (model.Threshold(value=None, color="green"), *wanted)


def below(warning: float, critical: float) -> Limits:
    """Yellow under `warning`, red under `critical`."""
    return (
        model.Threshold(value=None, color="red"),
        model.Threshold(value=critical, color="yellow"),
        model.Threshold(value=warning, color="green"),
    )


def graph(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    limits: Limits | None = None,
    stacked: bool = False,
    logarithmic: bool = False,
    exemplars: bool = False,
    signed: bool = False,
    width: int = 8,
) -> Panel:
    """Lines over time, from 0 up unless `signed`. `exemplars`: points that lead to traces."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(HEIGHT)
        .span(width)
        .draw_style(GraphDrawStyle.LINE)
        .line_width(1)
        .fill_opacity(20 if stacked else 5)
        .tooltip(
            common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING)
        )
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .targets([_range(query, exemplars=exemplars) for query in queries])
    )
    if not signed:
        panel.min(0)
    if stacked:
        panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if logarithmic:
        panel.scale_distribution(
            common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)
        )
    if limits is not None:
        panel.thresholds(_thresholds(limits)).thresholds_style(
            common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        )
    return panel


def number(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str = "short",
    limits: Limits | None = None,
    decimals: int | None = None,
    width: int = 4,
) -> Panel:
    """The latest value as a large number, with a sparkline."""
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(STAT_HEIGHT)
        .span(width)
        .graph_mode(BigValueGraphMode.AREA)
        .color_mode(BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(limits or above(None)))
        .targets([_range(query)])
    )
    return panel if decimals is None else panel.decimals(decimals)


def heat(title: str, description: str, query: Query, *, unit: str = "s", width: int = 12) -> Panel:
    """A histogram over time: the hotter, the more observations."""
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(HEIGHT)
        .span(width)
        .calculate(False)
        .color(
            heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
        )
        .cell_gap(1)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(HeatmapCellLayout.AUTO))
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .show_legend()
        .show_y_histogram()
        .mode(TooltipDisplayMode.SINGLE)
        .targets([_range(query, kind=PromQueryFormat.HEATMAP)])
    )


def _range(
    query: Query, *, kind: PromQueryFormat = PromQueryFormat.TIME_SERIES, exemplars: bool = False
) -> prometheus.Dataquery:
    legend = "{{le}}" if kind is PromQueryFormat.HEATMAP else query.legend or "__auto"
    made = prometheus.Dataquery().expr(query.expr).range().format(kind).legend_format(legend)
    return made.exemplar(True) if exemplars else made


def _thresholds(limits: Limits) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(list(limits))
