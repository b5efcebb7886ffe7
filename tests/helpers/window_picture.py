"""Draws the README's first picture: one window of `make demo`, its contexts and its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

from exactcpt.pipeline.core.buckets import bucket_of, lower_edges
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.inspection.report.charts import PAPER
from exactcpt.pipeline.shard_set.documents import read_rows
from exactcpt.pipeline.shard_set.recognize import open_shard_set
from exactcpt.pipeline.shard_set.windows import Segment, read_windows

PICTURE = Path(__file__).parents[1] / "data" / "window.svg"
CONFIG: dict[str, Any] = {
    "font": "Arial, Liberation Sans, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": PAPER["soft"],
        "titleColor": PAPER["ink"],
        "titleFontWeight": "normal",
        "gridColor": PAPER["grid"],
        "labelFontSize": 12,
        "titleFontSize": 13,
    },
}
"""What the pictures of the README have in common."""
NUMBER = 75
"""A window in which one document is long, one of middling length, and four are short."""
WIDTH = 780
NAMED = 900
"""The fewest tokens of a segment under which its document's name has room."""


def draw(shards: Folder) -> str:
    """The window as SVG."""
    manifest = open_shard_set(shards)
    segments = next(read_windows(shards, manifest, "train", [NUMBER]))
    names = {i: row.id for i, row in read_rows(shards, manifest, documents(segments)).items()}
    settings = manifest["settings"]
    spec = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": PAPER["paper"],
        "padding": 8,
        "spacing": 14,
        "vconcat": [
            contexts(segments, names, settings["tau"], settings["window"]),
            weights(segments, settings["window"]),
        ],
        "config": CONFIG | {"axisLeft": {"minExtent": 44}},
    }
    return vl_convert.vegalite_to_svg(spec, allowed_base_urls=[])


def documents(segments: list[Segment]) -> set[int]:
    return {segment.document for segment in segments}


def position(window: int, *, axis: dict[str, Any] | None) -> dict[str, Any]:
    scale = {"domain": [0, window], "nice": False}
    return {"field": "x", "type": "quantitative", "scale": scale, "axis": axis}


def contexts(
    segments: list[Segment], names: dict[int, str], tau: int, window: int
) -> dict[str, Any]:
    """A sawtooth: the context grows by one per token and begins again with each document."""
    ramps, tails, labels = [], [], []
    for segment in segments:
        start, tokens = segment.start, len(segment.tokens)
        last = {"x": start + tokens - 1, "context": tokens - 1, "segment": start}
        ramps += [{"x": start, "context": 0, "segment": start}, last]
        if tokens > tau:
            tails += [{"x": start + tau, "context": tau, "segment": start}, last]
        if tokens >= NAMED:
            labels.append(
                {"x": start + tokens / 2, "name": names[segment.document], "context": 190}
            )
    short = [segment for segment in segments if len(segment.tokens) < NAMED]
    middle = sum(segment.start + len(segment.tokens) / 2 for segment in short) / len(short)
    labels.append({"x": middle, "name": f"{len(short)} short documents", "context": 480})
    across = position(window, axis=None)
    upwards = {
        "field": "context",
        "type": "quantitative",
        "title": "effective context",
        "axis": {"format": ",d", "values": [0, 1024, 2048]},
    }
    area = {"x": across, "y": upwards, "detail": {"field": "segment"}}
    tail_begins = {"data": {"values": [{"context": tau}]}, "encoding": {"y": upwards}}
    return {
        "width": WIDTH,
        "height": 150,
        "layer": [
            {
                "data": {"values": ramps},
                "mark": {
                    "type": "area", "color": PAPER["before"],
                    "line": {"color": PAPER["outline"], "strokeWidth": 1.2},
                },
                "encoding": area,
            },
            {
                "data": {"values": tails},
                "mark": {"type": "area", "color": PAPER["tail"], "opacity": 0.55},
                "encoding": area,
            },
            {**tail_begins, "mark": {"type": "rule", "strokeDash": [4, 3], "color": PAPER["soft"]}},
            {
                **tail_begins,
                "mark": {
                    "type": "text", "align": "left", "x": 6, "dy": -8, "fontSize": 12,
                    "color": PAPER["soft"], "text": f"the tail begins: tau = {tau:,}",
                },
            },
            {
                "data": {"values": labels},
                "mark": {
                    "type": "text", "fontSize": 12, "color": PAPER["ink"],
                },
                "encoding": {"x": across, "y": upwards, "text": {"field": "name"}},
            },
        ],
    }  # fmt: skip


def weights(segments: list[Segment], window: int) -> dict[str, Any]:
    """A step per bucket of context that a segment reaches."""
    steps = []
    for segment in segments:
        tokens = len(segment.tokens)
        edges = lower_edges(bucket_of(tokens - 1) + 1) if tokens > 1 else np.zeros(0, np.int64)
        firsts = np.maximum(edges, 1)
        rows = [
            {"x": segment.start + int(first), "weight": float(np.round(segment.weights[first], 4))}
            for first in firsts
        ]
        end = {**rows[-1], "x": segment.start + tokens} if rows else {}
        steps += [{**row, "segment": segment.start} for row in [*rows, end] if row]
    ticks = {"format": ",d", "grid": False, "values": list(range(0, window + 1, window // 4))}
    return {
        "width": WIDTH,
        "height": 80,
        "data": {"values": steps},
        "mark": {
            "type": "line", "interpolate": "step-after", "color": PAPER["after"], "strokeWidth": 2,
        },
        "encoding": {
            "x": {**position(window, axis=ticks), "title": "position in the window, in tokens"},
            "y": {
                "field": "weight", "type": "quantitative", "title": "loss weight",
                "scale": {"domain": [0.95, 1.2], "nice": False},
                "axis": {"values": [1, 1.1, 1.2], "format": ".1f"},
            },
            "detail": {"field": "segment"},
        },
    }  # fmt: skip
