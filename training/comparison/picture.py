"""A comparison as charts: loss curves, differences by effective context, gains by distance.

The charts are Vega-Lite. In an SVG file they stand one below the other; on an HTML page each is as
wide as the page. The page loads nothing from elsewhere.
"""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

from .endpoints import Evaluation
from .losses import Losses
from .runs import Comparison

__all__ = ["charts", "draw_gains", "draw_page", "draw_svg"]

Spec = dict[str, Any]

WIDTH, HEIGHT = 640, 260

COLORS = ("#0072b2", "#d55e00", "#00875f", "#b8578c", "#8a6d00", "#2f8fc9", "#7a5bb0", "#1b1f24")
"""The palette of Okabe and Ito, some of it darker, for a contrast of 3 : 1 on white."""

POINTS = 200
"""Curves with fewer values are drawn with points."""

CONFIG: Spec = {
    "background": "white",
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "legend": {"orient": "top", "labelFontSize": 12, "titleFontSize": 12},
    "title": {"anchor": "start", "fontSize": 14, "offset": 12},
}

PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1rem auto; padding: 0 1rem;
  background: white; color: #1b1f24; }}
h1 {{ font-size: 1.4rem; }}
h2 {{ font-size: 1.05rem; margin: 2rem 0 0.5rem; }}
.vega-embed {{ width: 100%; }}
</style>
<h1>{title}</h1>
<p>Losses are unweighted, in nats per target. A difference below 0 is better than {baseline}.
Vertical lines are 95% intervals over seeds.{probe}</p>
{places}
<script>{library}</script>
<script>
const charts = {charts};
charts.forEach((chart, i) => vegaEmbed("#chart-" + i, chart, {{ actions: false }}));
</script>
</html>
"""

PROBE_LEGEND = """
A gain is what the evidence is worth to the answer; a difference above 0 is better than the
baseline. Bands are 95% intervals over seeds, the grey band is the noise floor, and the dashed line
is at tau."""


def draw_svg(found: Comparison) -> str:
    """Draws the charts as an SVG file, one below the other."""
    return _svg(charts(found))


def draw_gains(found: Mapping[str, Comparison]) -> str | None:
    """Draws gains by distance as an SVG file; None if nothing was evaluated with the probe.

    Args:
        found: name of a stage -> its arms, compared.
    """
    drawn = [
        (f"Stage {stage}: {title}", chart)
        for stage, each in found.items()
        for title, chart in _probe_charts(each, _color(each))
    ]
    return _svg(drawn) if drawn else None


def _svg(drawn: Iterable[tuple[str, Spec]]) -> str:
    import vl_convert  # 90 MB

    sized = [chart | {"title": title, "width": WIDTH} for title, chart in drawn]
    spec = {"vconcat": sized, "spacing": 36, "config": CONFIG}
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])


def draw_page(found: Comparison) -> str:
    """Draws the charts as an HTML page, each as wide as the page."""
    import vl_convert

    drawn = charts(found)
    places = [
        f'<h2>{html.escape(title)}</h2>\n<div id="chart-{i}"></div>'
        for i, (title, _) in enumerate(drawn)
    ]
    sized = [chart | {"width": "container", "config": CONFIG} for _, chart in drawn]
    return PAGE.format(
        title=html.escape(f"{' and '.join(found.arms)} compared"),
        baseline=html.escape(found.baseline),
        probe=PROBE_LEGEND if found.probed else "",
        places="\n".join(places),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        charts=json.dumps(sized).replace("<", "\\u003c"),  # so that no name can end the script
    )


def charts(found: Comparison) -> list[tuple[str, Spec]]:
    """Titles and Vega-Lite charts: loss curves, differences of losses, and of the probe's gains."""
    color = _color(found)
    return [
        ("Unweighted training loss", _curves(found, color)),
        *(
            (
                f"{losses.title}: loss minus the loss of {found.baseline}",
                _differences(losses, color),
            )
            for losses in found.losses
        ),
        *_probe_charts(found, color),
    ]


def _color(found: Comparison) -> Spec:
    return {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(found.arms), "range": COLORS},
    }


def _probe_charts(found: Comparison, color: Spec) -> list[tuple[str, Spec]]:
    return [
        (
            f"Probe, prompts of {probed.length:,} tokens, context {context}: gain minus the "
            f"gain of {found.baseline}",
            _gains(probed, context, color),
        )
        for probed in found.probed
        for context in dict.fromkeys(endpoint.context for endpoint in probed.endpoints)
    ]


def _curves(found: Comparison, color: Spec) -> Spec:
    values = [
        {"arm": arm, "step": step, "loss": loss}
        for arm, points in found.curves.items()
        for step, loss in points
    ]
    return {
        "data": {"values": values},
        "height": HEIGHT,
        "mark": {"type": "line", "point": len(values) < POINTS},
        "encoding": {
            "x": {
                "field": "step",
                "type": "quantitative",
                "title": "step",
                "axis": {"tickMinStep": 1, "format": ",d"},
            },
            "y": {
                "field": "loss",
                "type": "quantitative",
                "title": "nats per target",
                "scale": {"zero": False},
            },
            "color": color,
        },
    }


def _differences(losses: Losses, color: Spec) -> Spec:
    values = [
        {
            "contexts": f"{row.contexts[0]:,}-{row.contexts[1]:,}",
            "in_tail": row.in_tail,
            "arm": arm,
            "delta": delta.delta,
            "low": delta.delta - (delta.interval or 0.0),
            "high": delta.delta + (delta.interval or 0.0),
        }
        for row in losses.rows
        if row.contexts is not None
        for arm, delta in row.arms.items()
    ]
    x = {
        "field": "contexts",
        "type": "ordinal",
        "sort": list(dict.fromkeys(value["contexts"] for value in values)),  # for the shading too
        "scale": {"paddingInner": 0.2, "paddingOuter": 0.1},
        "title": "effective context in tokens (the tail is shaded)",
        "axis": {"labelAngle": -45},
    }
    beside = {"x": x, "xOffset": {"field": "arm", "type": "nominal"}}
    nats = {"type": "quantitative", "title": "nats per target"}
    return {
        "data": {"values": values},
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "datum.in_tail"}],
                "mark": {"type": "rect", "color": "#eceff3"},
                "encoding": {"x": x},
            },
            {
                "mark": "bar",
                "encoding": {**beside, "y": {"field": "delta", **nats}, "color": color},
            },
            {
                "mark": "rule",
                "encoding": {**beside, "y": {"field": "low", **nats}, "y2": {"field": "high"}},
            },
        ],
    }


def _gains(probed: Evaluation, context: str, color: Spec) -> Spec:
    """Differences of the gain by distance: a line per arm, its interval over seeds, the floor."""
    rows = [e for e in probed.endpoints if e.context == context and e.distance is not None]
    values = [
        {
            "distance": row.distance,
            "arm": arm,
            "delta": finding.delta,
            "low": finding.delta - (finding.over_seeds or 0.0),
            "high": finding.delta + (finding.over_seeds or 0.0),
        }
        for row in rows
        for arm, finding in row.arms.items()
    ]
    x = {
        "field": "distance",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2},
        "title": "distance from the evidence to the answer in tokens",
        "axis": {"values": [row.distance for row in rows], "format": ",d", "labelAngle": -45},
    }
    nats = {"type": "quantitative", "title": "nats"}
    lines: list[Spec] = [
        {
            "mark": {"type": "area", "opacity": 0.15},
            "encoding": {
                "x": x,
                "y": {"field": "low", **nats},
                "y2": {"field": "high"},
                "color": color,
            },
        },
        {
            "mark": {"type": "line", "point": True},
            "encoding": {"x": x, "y": {"field": "delta", **nats}, "color": color},
        },
    ]
    floor = [
        {"distance": row.distance, "low": -row.floor, "high": row.floor}
        for row in rows
        if row.floor is not None
    ]
    behind: list[Spec] = []
    if floor:
        band = {"x": x, "y": {"field": "low", **nats}, "y2": {"field": "high"}}
        area = {"type": "area", "color": "#c8ced6"}
        behind.append({"data": {"values": floor}, "mark": area, "encoding": band})
    if probed.tau is not None:
        rule = {"type": "rule", "strokeDash": [4, 4], "color": "#5b6673"}
        at = {"x": {**x, "field": "tau"}}
        behind.append({"data": {"values": [{"tau": probed.tau}]}, "mark": rule, "encoding": at})
    return {"data": {"values": values}, "height": HEIGHT, "layer": [*behind, *lines]}
