"""A comparison as Vega-Lite charts, each with its title."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ...schemas.sizes import plural
from ..evaluation.ruler.tables import TITLES
from .endpoints import Endpoint, Evaluation
from .losses import Losses
from .ruler_endpoints import LENGTH, RulerEndpoint, RulerEvaluation
from .runs import Comparison
from .standard_endpoints import StandardEndpoint

__all__ = ["Chart", "Spec", "charts", "gain_charts"]

Spec = dict[str, Any]
Chart = tuple[str, Spec]
"""A title and a chart."""

HEIGHT = 260
ROW = 16
"""Height of an arm in a row."""

COLORS = ("#0072b2", "#d55e00", "#00875f", "#b8578c", "#8a6d00", "#2f8fc9", "#7a5bb0", "#1b1f24")
"""The palette of Okabe and Ito, some of it darker, for a contrast of 3 : 1 on white."""

POINTS = 200
"""Curves with fewer values are drawn with points."""

UNITS = {"loglik": "nats per token", "choice": "share of items", "match": "share of answers"}
"""The unit of each measure of ruler."""


def charts(found: Comparison) -> list[Chart]:
    """Loss curves; differences of losses, of the probe's gains and of ruler's scores; and all
    endpoints side by side."""
    color = _color(found.arms)
    return [
        ("Unweighted training loss", _curves(found, color)),
        *(
            (
                f"{losses.title}: loss minus the loss of {found.baseline}",
                _differences(losses, color),
            )
            for losses in found.losses
        ),
        *gain_charts(found, found.arms),
        *((_ruler_title(each, found.baseline), _ruler(each, color)) for each in found.ruler),
        *_forests(found, color),
    ]


def _color(arms: Iterable[str]) -> Spec:
    return {
        "field": "arm",
        "type": "nominal",
        "title": None,
        "scale": {"domain": list(arms), "range": COLORS},
    }


def gain_charts(found: Comparison, arms: Iterable[str]) -> list[Chart]:
    """Differences of the probe's gains by distance.

    Args:
        found: the comparison.
        arms: names that colours are given to, in order.
    """
    color = _color(arms)
    return [
        (
            f"Probe, prompts of {_prompts(probed, found.probed)} tokens, context {context}: "
            f"gain minus the gain of {found.baseline}",
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
            "at": f"{row.contexts[0]:,}-{row.contexts[1]:,}",
            "shaded": row.in_tail,
            **_interval(arm, delta.delta, delta.interval),
        }
        for row in losses.rows
        if row.contexts is not None
        for arm, delta in row.arms.items()
    ]
    title = "effective context in tokens (the tail is shaded)"
    return _bars(values, title, "nats per target", color)


def _ruler_title(found: RulerEvaluation, baseline: str) -> str:
    name = found.score or f"{found.suite}, {plural(found.tasks, 'task')}"
    return f"{name}, {TITLES[found.measure]}: score minus the score of {baseline}"


def _ruler(found: RulerEvaluation, color: Spec) -> Spec:
    values = [
        {
            "at": f"{row.lengths[0]:,}",
            "shaded": not row.extrapolated,
            **_interval(arm, finding.delta, finding.over_seeds),
        }
        for row in found.endpoints
        if row.name == LENGTH
        for arm, finding in row.arms.items()
    ]
    title = "prompts in tokens (the lengths of the training are shaded)"
    return _bars(values, title, UNITS[found.measure], color)


def _interval(arm: str, delta: float, half: float | None) -> Spec:
    """A difference of an arm and the ends of its interval, which are itself without one."""
    return {"arm": arm, "delta": delta, "low": delta - (half or 0), "high": delta + (half or 0)}


def _bars(values: list[Spec], across: str, unit: str, color: Spec) -> Spec:
    """A group of bars for each place `at`, one bar per arm, with intervals."""
    x = {
        "field": "at",
        "type": "ordinal",
        "sort": list(dict.fromkeys(value["at"] for value in values)),  # for the shading too
        "scale": {"paddingInner": 0.2, "paddingOuter": 0.1},
        "title": across,
        "axis": {"labelAngle": -45},
    }
    beside = {"x": x, "xOffset": {"field": "arm", "type": "nominal"}}
    y = {"type": "quantitative", "title": unit}
    return {
        "data": {"values": values},
        "height": HEIGHT,
        "layer": [
            {
                "transform": [{"filter": "datum.shaded"}],
                "mark": {"type": "rect", "color": "#eceff3"},
                "encoding": {"x": x},
            },
            {
                "mark": "bar",
                "encoding": {**beside, "y": {"field": "delta", **y}, "color": color},
            },
            {
                "mark": "rule",
                "encoding": {**beside, "y": {"field": "low", **y}, "y2": {"field": "high"}},
            },
        ],
    }


def _forests(found: Comparison, color: Spec) -> list[Chart]:
    """The endpoints that are not of one distance or length, a chart for each unit."""
    by_unit: dict[str, list[Spec]] = {}
    for unit, label, row in _endpoints(found):
        for arm, finding in row.arms.items():
            value = _interval(arm, finding.delta, finding.over_seeds)
            floor = {} if row.floor is None else {"floor": row.floor, "below": -row.floor}
            by_unit.setdefault(unit, []).append({"at": label, **value, **floor})
    return [
        (f"All endpoints in {unit}: difference from {found.baseline}", _forest(values, unit, color))
        for unit, values in by_unit.items()
    ]


def _endpoints(
    found: Comparison,
) -> Iterator[tuple[str, str, Endpoint | RulerEndpoint | StandardEndpoint]]:
    """Yields units, labels and endpoints."""
    for probed in found.probed:
        for row in probed.endpoints:
            if row.distance is None:
                unit = "nats per doubling" if row.name == "slope" else "nats"
                yield unit, f"{row.name}, {row.context} {_prompts(probed, found.probed)}", row
    several = len({(ruler.suite, ruler.tasks) for ruler in found.ruler}) > len(
        {ruler.suite for ruler in found.ruler}
    )
    for number, ruler in enumerate(found.ruler):
        for each in ruler.endpoints:
            if each.name != LENGTH:
                which = f" of {plural(ruler.tasks, 'task')}" if several else ""
                again = _again(ruler, found.ruler[:number])
                yield UNITS[ruler.measure], f"{ruler.suite}{which}, {each.name}{again}", each
    for each in found.standard:
        yield "mean score", " ".join(filter(None, (f"standard, {each.name}", each.metric))), each


def _prompts(probed: Evaluation, every: Sequence[Evaluation]) -> str:
    """The prompts of an evaluation with the probe, so that none of several is taken for another."""
    alike = [each for each in every if each.length == probed.length]
    ablation = f", {probed.ablation}" if len({each.ablation for each in alike}) > 1 else ""
    before = [each for each in alike if each.ablation == probed.ablation]
    number = next(n for n, each in enumerate(before, 1) if each is probed)
    return f"{probed.length:,}{ablation}" + (f" ({number})" if number > 1 else "")


def _again(ruler: RulerEvaluation, before: Sequence[RulerEvaluation]) -> str:
    """A number for the second and later evaluations of as many tasks by one measure."""
    alike = [
        each
        for each in before
        if (each.suite, each.measure, each.tasks) == (ruler.suite, ruler.measure, ruler.tasks)
    ]
    return f" ({len(alike) + 1})" if alike else ""


def _forest(values: list[Spec], unit: str, color: Spec) -> Spec:
    """A row for each endpoint `at`, with a point and an interval per arm, and the noise floor."""
    labels = list(dict.fromkeys(value["at"] for value in values))
    y = {"field": "at", "type": "ordinal", "sort": labels, "title": None}
    beside = {"y": y, "yOffset": {"field": "arm", "type": "nominal"}}
    x = {"type": "quantitative", "title": unit}
    return {
        "data": {"values": values},
        "height": ROW * len({(value["at"], value["arm"]) for value in values}),
        "layer": [
            {
                "transform": [{"filter": "isValid(datum.floor)"}],
                "mark": {"type": "bar", "color": "#c8ced6"},
                "encoding": {"y": y, "x": {"field": "below", **x}, "x2": {"field": "floor"}},
            },
            {
                "mark": "rule",
                "encoding": {
                    **beside,
                    "x": {"field": "low", **x},
                    "x2": {"field": "high"},
                    "color": color,
                },
            },
            {
                "mark": {"type": "point", "filled": True},
                "encoding": {**beside, "x": {"field": "delta", **x}, "color": color},
            },
        ],
    }


def _gains(probed: Evaluation, context: str, color: Spec) -> Spec:
    """Differences of the gain by distance: a line per arm, its interval over seeds, the floor."""
    rows = [e for e in probed.endpoints if e.context == context and e.distance is not None]
    values = [
        {"distance": row.distance, **_interval(arm, finding.delta, finding.over_seeds)}
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
