"""What the studies of the recipes found, as pictures: what weightings do to recall, by distance.

python tests/helpers/study_picture.py STUDY      writes a JSON file and a picture to tests/data

STUDY is the folder of the study. The JSON file has the few of its figures that are drawn.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
import vl_convert
from window_picture import CONFIG

from exactcpt.pipeline.core.buckets import lower_edges
from exactcpt.pipeline.inspection.report.charts import PAPER
from exactcpt.training.comparison.intervals import half_width

DATA = Path(__file__).parents[1] / "data"

WIDTH, HEIGHT = 340, 240
DEFAULT = {"alpha = 0.15, the default": {"exact": "exact", "document": "document", "near": "near"}}
"""Title of a panel -> what the extra weight is called there -> arm."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A study whose figures are kept in tests/data.

    Attributes:
        file: the name of its files there, without suffix.
        context: that of the probe's prompts.
        panels: as `DEFAULT`.
        has_losses: whether its runs have the suite `buckets`.
        label_at: where tau is named, in pixels from the top.
    """

    file: str
    context: str
    panels: dict[str, dict[str, str]]
    has_losses: bool = False
    label_at: int = 12

    @property
    def figures(self) -> Path:
        """The figures that are drawn."""
        return DATA / f"{self.file}.json"

    @property
    def picture(self) -> Path:
        """The picture."""
        return DATA / f"{self.file}.svg"


STUDIES = {
    "tiny-recall": Drawn(
        file="recall",
        context="fixed",
        panels=DEFAULT
        | {"alpha = 1": {"exact": "dose-1", "document": "document-1", "near": "near-1"}},
    ),
    "natural-text": Drawn(
        file="natural", context="document", panels=DEFAULT, has_losses=True, label_at=HEIGHT - 12
    ),
}
WORDS = {
    "exact": "on the targets of the tail (exact)",
    "document": "all over the same documents (document)",
    "near": "on the other targets of the same documents (near)",
}
COLORS = ["#0072b2", "#d55e00", "#00875f"]


def figures(study: Path) -> dict[str, Any]:
    """The figures that are drawn, from the results of a study."""
    results = json.loads((study / "results.json").read_text("utf-8"))
    (stage,) = results["stages"]
    (evaluation,) = stage["evaluations"]
    rows = [
        row
        for row in evaluation["endpoints"]
        if row["context"] == STUDIES[results["name"]].context
        and row["name"] in ("far", "near", "gain")
    ]
    return {
        "study": results["name"],
        "pairs": len(stage["compared"]),
        "tau": evaluation["tau"],
        "rows": [
            {
                "figure": row["name"] if row["distance"] is None else row["distance"],
                "uniform": round(row["baseline"], 6),
                "floor": round(row["floor"], 6),
                "arms": {
                    arm: [round(found["delta"], 6), round(found["over_seeds"], 6)]
                    for arm, found in row["arms"].items()
                },
            }
            for row in rows
        ],
    }


def losses(study: Path) -> list[dict[str, Any]]:
    """The loss by effective context on the validation windows, as rows like those of the gains."""
    results = json.loads((study / "results.json").read_text("utf-8"))
    (stage,) = results["stages"]
    runs = study / "runs" / stage["stage"]
    found: dict[tuple[int, str], list[float]] = {}
    for pair in sorted(path for path in runs.iterdir() if path.is_dir()):
        for run in sorted(pair.iterdir()):
            (scores,) = run.glob("eval/buckets-*/scores.parquet")
            rows = pq.read_table(scores, filters=[("table", "==", "bucket")])
            sums = rows.group_by("bucket").aggregate([("targets", "sum"), ("ce_sum", "sum")])
            for row in sums.to_pylist():
                key = row["bucket"], run.name
                found.setdefault(key, []).append(row["ce_sum_sum"] / row["targets_sum"])
    arms = sorted({arm for _, arm in found} - {"uniform"})
    buckets = sorted({bucket for bucket, _ in found})
    edges = lower_edges(len(buckets) + 1).tolist()

    def interval(bucket: int, arm: str) -> list[float]:
        pairs = zip(found[bucket, arm], found[bucket, "uniform"], strict=True)
        deltas = [one - other for one, other in pairs]
        half = half_width(deltas)
        assert half is not None
        return [round(mean(deltas), 6), round(half, 6)]

    return [
        {
            "figure": f"{edges[bucket]:,}-{edges[bucket + 1] - 1:,}",
            "uniform": round(mean(found[bucket, "uniform"]), 6),
            "arms": {arm: interval(bucket, arm) for arm in arms},
        }
        for bucket in buckets
    ]


def draw(found: dict[str, Any]) -> str:
    """The picture as SVG."""
    rows = [row for row in found["rows"] if isinstance(row["figure"], int)]
    drawn = STUDIES[found["study"]]
    ends = [
        delta + side * half
        for row in rows
        for arms in drawn.panels.values()
        for delta, half in (row["arms"][arm] for arm in arms.values())
        for side in (-1, 1)
    ]
    spec = {
        "background": PAPER["paper"],
        "padding": 8,
        "spacing": 24,
        "hconcat": [
            panel(title, arms, rows, found["tau"], [min(ends), max(ends)], drawn.label_at)
            for title, arms in drawn.panels.items()
        ],
        "config": CONFIG | {
            "legend": {
                "orient": "top", "direction": "vertical", "labelFontSize": 12, "labelLimit": 400,
                "symbolOpacity": 1, "symbolType": "stroke", "symbolStrokeWidth": 3,
                "titleFontSize": 13, "titleFontWeight": "normal",
            },
            "title": {"anchor": "start", "fontSize": 13, "fontWeight": "bold"},
        },
    }  # fmt: skip
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])


def panel(
    title: str,
    arms: dict[str, str],
    rows: list[dict[str, Any]],
    tau: int,
    domain: list[float],
    label_at: int,
) -> dict[str, Any]:
    """Differences by distance, with bands over the pairs, the noise floor, and tau."""
    values = [
        {
            "distance": row["figure"],
            "extra": WORDS[name],
            "delta": row["arms"][arm][0],
            "low": row["arms"][arm][0] - row["arms"][arm][1],
            "high": row["arms"][arm][0] + row["arms"][arm][1],
        }
        for row in rows
        for name, arm in arms.items()
    ]
    floor = [
        {"distance": row["figure"], "low": -row["floor"], "high": row["floor"]} for row in rows
    ]
    x = {
        "field": "distance",
        "type": "quantitative",
        "scale": {"type": "log", "base": 2},
        "title": "distance from the evidence to the answer, in tokens",
        "axis": {"values": [row["figure"] for row in rows], "format": ",d"},
    }
    y = {
        "type": "quantitative",
        "title": "gain, minus that of uniform, in nats",
        "scale": {"domain": domain},
    }
    color = {
        "field": "extra",
        "type": "nominal",
        "title": "where the extra weight is",
        "scale": {"domain": list(WORDS.values()), "range": COLORS},
    }
    band = {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}}
    return {
        "title": title,
        "width": WIDTH,
        "height": HEIGHT,
        "data": {"values": values},
        "layer": [
            {
                "data": {"values": floor},
                "mark": {"type": "area", "color": "#c8ced6"},
                "encoding": band,
            },
            {
                "data": {"values": [{"distance": tau}]},
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": PAPER["soft"]},
                "encoding": {"x": x},
            },
            {
                "data": {"values": [{"distance": tau}]},
                "mark": {
                    "type": "text", "align": "right", "dx": -5, "y": label_at, "fontSize": 12,
                    "color": PAPER["soft"], "text": f"tau = {tau}",
                },
                "encoding": {"x": x},
            },
            {"mark": {"type": "area", "opacity": 0.18}, "encoding": {**band, "color": color}},
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"x": x, "y": {"field": "delta", **y}, "color": color},
            },
        ],
    }  # fmt: skip


if __name__ == "__main__":
    found = figures(Path(sys.argv[1]))
    drawn = STUDIES[found["study"]]
    if drawn.has_losses:
        found["losses"] = losses(Path(sys.argv[1]))
    drawn.figures.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    drawn.picture.write_text(draw(found), "utf-8")
