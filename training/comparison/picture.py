"""A comparison drawn: as an SVG file, or as an HTML page.

In an SVG file the charts stand one below the other; on a page each is as wide as the page. The page
loads nothing from elsewhere.
"""

import html
import json
from collections.abc import Iterable, Mapping

from .charts import Chart, Spec, charts, gain_charts
from .runs import Comparison

__all__ = ["draw_gains", "draw_page", "draw_svg"]

WIDTH = 640

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
Thin lines are 95% intervals over seeds.{evaluated}</p>
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

RULER_LEGEND = """
Scores of ruler are better above the baseline; lengths up to the windows of the training are
shaded."""


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
        for title, chart in gain_charts(each, [arm for arm in each.arms if arm != each.baseline])
    ]
    return _svg(drawn) if drawn else None


def _svg(drawn: Iterable[Chart]) -> str:
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
        evaluated=(PROBE_LEGEND if found.probed else "") + (RULER_LEGEND if found.ruler else ""),
        places="\n".join(places),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        charts=json.dumps(sized).replace("<", "\\u003c"),  # so that no name can end the script
    )
