"""The charts of a report, as Vega-Lite specifications.

The same specifications are drawn by the browser, with data that its sliders change, and by
vl-convert into an SVG file. A chart's data has the names of the inspection: the records of
`buckets` and `sources` as they are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ..json_types import RowJson

__all__ = ["BROWSER", "PAPER", "Palette", "exposure", "picture", "plans", "sources", "weights"]

Spec = dict[str, Any]
Palette = Mapping[str, str]
# Okabe and Ito's colours, some darker: 3 : 1 on white. Before and after also differ as hollow and
# solid, the plans by the shape of their points.
PAPER: Palette = {
    "paper": "#ffffff",
    "ink": "#1b1f24",
    "soft": "#57606a",
    "grid": "#dfe3e8",
    "before": "#eceff3",
    "outline": "#6b7684",
    "after": "#0072b2",
    "tail": "#e69f00",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#00875f",
    "series-4": "#b8578c",
    "series-5": "#8a6d00",
    "series-6": "#2f8fc9",
    "series-7": "#1b1f24",
    "series-8": "#7a5bb0",
}
# In the page colours are those of its style sheet, for light and for dark.
BROWSER: Palette = {name: f"var(--{name})" for name in PAPER}
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]
FONT = "system-ui, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"
AXIS_WIDTH = 48
NUMBER_WIDTH = 36
PAPER_WIDTH = 640
SHORT_SIZE = (
    "datum.value < 1024 ? '' + datum.value"
    " : datum.value < 1048576 ? datum.value / 1024 + 'K' : datum.value / 1048576 + 'M'"
)

WEIGHTING = "{} == 'mass_before' ? 'before' : 'after'"


def exposure(palette: Palette) -> Spec:
    """Each bucket's share of the total loss weight before and after. Data: `buckets`."""
    context = _contexts()
    bars = {
        "transform": _both("share"),
        "mark": {"type": "bar", "strokeWidth": 1.2},
        "encoding": {
            "x": context,
            "xOffset": {
                "field": "series",
                "type": "nominal",
                "sort": ["mass_before", "mass_after"],
                "scale": {"paddingOuter": 0.2, "paddingInner": 0.08},
            },
            "y": {
                "field": "share",
                "type": "quantitative",
                "title": "share of the loss weight",
                "axis": {"format": "%", "tickCount": 5},
            },
            **_before_and_after(palette),
            "tooltip": [
                {"field": "low", "title": "effective context from", "format": ","},
                {"field": "high", "title": "to", "format": ","},
                {"field": "weighting"},
                {"field": "share", "title": "share of the loss weight", "format": ".2%"},
            ],
        },
    }
    return _chart("buckets", palette, height=240, layer=[_tail_band(palette), bars])


def weights(palette: Palette) -> Spec:
    """The weight of each bucket. Data: `buckets`."""
    place = {
        "x": _contexts(),
        "y": {
            "field": "weight",
            "type": "quantitative",
            "title": "weight",
            "scale": {"zero": False, "domainMin": 1},
            "axis": {"tickCount": 4},
        },
    }
    room = {  # for the numbers over the points, and an axis where every weight is 1
        "transform": [
            {"calculate": "max(1.1, 1 + (datum.weight - 1) * 1.25)", "as": "room"},
        ],
        "mark": {"type": "point", "opacity": 0, "tooltip": None},
        "encoding": {**place, "y": {**place["y"], "field": "room"}},
    }
    layers = [_tail_band(palette), room, *_pins(palette, place), _weight_numbers(palette, place)]
    return _chart("buckets", palette, height=150, layer=layers)


def _pins(palette: Palette, place: Spec) -> list[Spec]:
    """A point for each weight, on a stem that begins at 1; those of the tail are solid."""
    fill, stroke = (
        {
            "condition": {"test": "datum.in_tail", "value": palette["after"]},
            "value": palette[outside],
        }
        for outside in ("before", "outline")
    )
    stems = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {**place, "y2": {"datum": 1}, "stroke": stroke},
    }
    points = {
        "mark": {"type": "point", "size": 70, "opacity": 1},
        "encoding": {
            **place,
            "fill": fill,
            "stroke": stroke,
            "tooltip": [
                {"field": "low", "title": "effective context from", "format": ","},
                {"field": "high", "title": "to", "format": ","},
                {"field": "targets", "format": ","},
                {"field": "weight", "format": ".4f"},
            ],
        },
    }
    return [stems, points]


def _weight_numbers(palette: Palette, place: Spec) -> Spec:
    """The weights of the tail in numbers, where there is room for them."""
    return {  # no filter: a scale of no data at all has no extent
        "transform": [
            {
                "joinaggregate": [
                    {"op": "count", "as": "buckets"},
                    {"op": "sum", "field": "in_tail", "as": "tail"},
                ]
            },
            {
                "calculate": f"datum.tail <= 3 || width / datum.buckets > {NUMBER_WIDTH}",
                "as": "fits",
            },
            {
                "calculate": "datum.in_tail && datum.fits ? format(datum.weight, '.4~r') : ''",
                "as": "number",
            },
        ],
        "mark": {"type": "text", "dy": -13, "fontSize": 11, "color": palette["ink"]},
        "encoding": {**place, "text": {"field": "number"}},
    }


def sources(palette: Palette, count: int) -> Spec:
    """Each source's share of the total loss weight, and of the tail. Data: `sources`."""
    by_source = {
        "field": "name",
        "type": "nominal",
        "title": None,
        "sort": {"field": "targets", "op": "max", "order": "descending"},
        "axis": {"labelLimit": 110, "labelPadding": 10, "domain": False, "ticks": False},
        "scale": {"paddingInner": 0.35, "paddingOuter": 0.15},
    }
    share = {
        "field": "share",
        "type": "quantitative",
        "title": "share of the loss weight, or of the tail",
        "axis": {"format": "%", "tickCount": 5},
    }
    place = {"x": share, "y": by_source}
    bars = {
        "transform": _both("share"),
        "mark": {"type": "bar", "strokeWidth": 1.2},
        "encoding": {
            **place,
            "yOffset": {"field": "series", "sort": ["mass_before", "mass_after"]},
            **_before_and_after(palette),
            "tooltip": [
                {"field": "name", "title": "source"},
                {"field": "weighting"},
                {"field": "share", "title": "share of the loss weight", "format": ".2%"},
            ],
        },
    }
    return _chart(
        "sources", palette, height=max(1, count) * 40, layer=[bars, _tail_points(palette, place)]
    )


def _tail_points(palette: Palette, place: Spec) -> Spec:
    """A point for each source's share of the tail's targets."""
    return {
        "transform": [
            {"joinaggregate": [{"op": "sum", "field": "tail_targets", "as": "tail"}]},
            {"calculate": "datum.tail > 0 ? datum.tail_targets / datum.tail : 0", "as": "share"},
            {"calculate": "'the tail'", "as": "series"},
        ],
        "mark": {"type": "point", "size": 75, "opacity": 1, "filled": True, "strokeWidth": 1.5},
        "encoding": {
            **place,
            "shape": {
                "field": "series",
                "title": None,
                "scale": {"domain": ["the tail"], "range": ["diamond"]},
                "legend": {
                    "labelExpr": "'of the tail'",
                    "symbolFillColor": palette["tail"],
                    "symbolStrokeColor": palette["ink"],
                },
            },
            "fill": {"value": palette["tail"]},
            "stroke": {"value": palette["ink"]},
            "tooltip": [
                {"field": "name", "title": "source"},
                {"field": "share", "title": "share of the tail", "format": ".2%"},
            ],
        },
    }


def plans(palette: Palette, rows: Sequence[Mapping[str, Any]]) -> Spec:
    """The share of targets with at least a given effective context.

    Args:
        palette: the colours.
        rows: for each plan (named by `others` and `packing`) and bucket (from `low`) the share of
            targets in this bucket or a later one (`reach`).
    """
    others = list(dict.fromkeys(row["others"] for row in rows))
    packings = list(dict.fromkeys(row["packing"] for row in rows))
    colours = [palette[f"series-{1 + n % 8}"] for n in range(len(others))]
    legend = {"orient": "bottom", "columns": 2, "symbolStrokeWidth": 2, "labelLimit": 240}
    by_others = {"field": "others", "type": "nominal", "title": None, "legend": legend}
    place = {
        "x": {**_contexts(), "title": "effective context at least (tokens)"},
        "y": {
            "field": "reach",
            "type": "quantitative",
            "title": "share of the targets",
            "axis": {"format": "%", "tickCount": 5},
        },
        "stroke": {**by_others, "scale": {"domain": others, "range": colours}},
    }
    lines = {
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {
            **place,
            "strokeDash": {
                "field": "packing",
                "type": "nominal",
                "title": None,
                "scale": {"domain": packings, "range": [[1, 0], [5, 3]]},
                "legend": {**legend, "symbolType": "stroke", "symbolSize": 300},
            },
        },
    }
    points = {
        "mark": {"type": "point", "size": 45, "opacity": 1, "fill": palette["paper"]},
        "encoding": {
            **place,
            "shape": {**by_others, "scale": {"domain": others, "range": SHAPES}},
            "tooltip": [
                {"field": "others", "title": "settings"},
                {"field": "packing"},
                {"field": "low", "title": "effective context at least", "format": ","},
                {"field": "reach", "title": "share of the targets", "format": ".2%"},
            ],
        },
    }
    chart = _chart("plans", palette, height=260, layer=[lines, points])
    chart["data"]["values"] = list(rows)
    return chart


def picture(
    subjects: Sequence[tuple[str, RowJson, Sequence[Mapping[str, Any]]]],
) -> Spec:
    """The charts of one or more subjects on paper, side by side.

    Args:
        subjects: for each its title, a row of the inspection, and the rows of `plans`, which are
            none if it has one plan.
    """
    columns = []
    for title, row, reach in subjects:
        charts = [
            ("Loss weight by effective context", exposure(PAPER), row["buckets"]),
            ("Weight of a target", weights(PAPER), row["buckets"]),
            ("Sources", sources(PAPER, len(row["sources"])), row["sources"]),
        ]
        if reach:
            charts.append(("Settings compared", plans(PAPER, reach), reach))
        columns.append(
            {
                "title": {
                    "text": title,
                    "fontSize": 16,
                    "anchor": "start",
                    "offset": 16,
                    "limit": PAPER_WIDTH,
                },
                "spacing": 28,
                "vconcat": [_on_paper(name, chart, data) for name, chart, data in charts],
                "resolve": _APART,
            }
        )
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": PAPER["paper"],
        "padding": 16,
        "config": _config(PAPER),
        "hconcat": columns,
        "resolve": _APART,
    }


_SCALES = ("fill", "stroke", "shape", "strokeDash", "xOffset", "yOffset")
_APART = {
    "scale": dict.fromkeys(_SCALES, "independent"),
    "legend": dict.fromkeys(_SCALES[:4], "independent"),
}


def _on_paper(title: str, chart: Spec, data: Sequence[Mapping[str, Any]]) -> Spec:
    inner = {name: chart[name] for name in ("height", "layer")}
    heading = {"text": title, "anchor": "start", "frame": "group", "fontSize": 13}
    return {**inner, "title": heading, "data": {"values": list(data)}, "width": PAPER_WIDTH}


def _chart(data: str, palette: Palette, *, height: int, layer: list[Spec]) -> Spec:
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "data": {"name": data},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "background": None,
        "config": _config(palette),
        "layer": layer,
    }


def _config(palette: Palette) -> Spec:
    return {
        "aria": False,  # the page and the file have one text for the whole chart
        "font": FONT,
        "padding": 2,
        "view": {"stroke": None},
        "axis": {
            "labelColor": palette["soft"],
            "titleColor": palette["soft"],
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
            "gridColor": palette["grid"],
            "domainColor": palette["outline"],
            "tickColor": palette["outline"],
        },
        "axisLeft": {"minExtent": AXIS_WIDTH},
        "legend": {
            "orient": "top",
            "labelColor": palette["ink"],
            "labelFontSize": 12,
            "symbolSize": 110,
            "layout": {"bottom": {"anchor": "start", "direction": "vertical", "margin": 6}},
        },
        "title": {"color": palette["ink"], "subtitleColor": palette["soft"]},
    }


def _contexts() -> Spec:
    return {
        "field": "low",
        "type": "ordinal",
        "title": "effective context from (tokens)",
        "scale": {"padding": 0},
        "axis": {
            "labelAngle": 0,
            "labelExpr": SHORT_SIZE,
            "labelOverlap": True,
            "labelSeparation": 3,
        },
    }


def _tail_band(palette: Palette) -> Spec:
    return {
        "mark": {"type": "rect", "color": palette["tail"], "tooltip": None},
        "encoding": {
            "x": _contexts(),
            "y": {"value": 0},
            "y2": {"value": "height"},
            "opacity": {"condition": {"test": "datum.in_tail", "value": 0.16}, "value": 0},
        },
    }


def _both(name: str) -> list[Spec]:
    """Turns each record into two: its share before weighting, and its share after."""
    return [
        {"fold": ["mass_before", "mass_after"], "as": ["series", name]},
        {"calculate": WEIGHTING.format("datum.series"), "as": "weighting"},
    ]


def _before_and_after(palette: Palette) -> Spec:
    domain = ["mass_before", "mass_after"]
    legend = {"labelExpr": WEIGHTING.format("datum.value")}
    by_series = {"field": "series", "type": "nominal", "title": None, "legend": legend}
    return {
        "fill": {
            **by_series,
            "scale": {"domain": domain, "range": [palette["before"], palette["after"]]},
        },
        "stroke": {
            **by_series,
            "scale": {"domain": domain, "range": [palette["outline"], palette["after"]]},
        },
    }
