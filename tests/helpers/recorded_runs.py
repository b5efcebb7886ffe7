"""Runs by hand, as `compare` reads them, and what a person sees of a comparison."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from exactcpt.training.comparison.runs import Comparison
from exactcpt.training.comparison.tables import comparison_tables
from exactcpt.training.run.log import RunLog, write_run

STEPS = 20
COUNTS = [10, 0, 30]


def write(
    folder: Path,
    weighting: str = "uniform",
    *,
    seed: int = 0,
    gain: float = 0.0,
    digests: str = "d",
    evaluated: bool = True,
    steps: int = STEPS,
    model: str = "m",
    norms: str | None = None,
    table: list[float] | None = None,
    measured: dict[str, Any] | None = None,
    earlier: dict[str, Any] | None = None,
    changed: dict[int, dict[str, Any]] | None = None,
    skipped: Sequence[int] = (),
    **settings: Any,
) -> str:
    """A run by hand: its loss falls a little every step, `gain` more in bucket 2.

    `changed` has settings that it goes on with, by the step after which it does. In the steps
    `skipped`, the loss is not finite.
    """
    chosen: dict[str, Any] = {"shards": "s", "model": "m", "out": str(folder), "seed": seed,
              "weighting": weighting, "weight_table": None, "learning_rate": 0.1,
              "save_every": 5}  # fmt: skip
    buckets = [
        {"low": low, "high": high, "in_tail": low >= 16, "weight": 1.0}
        for low, high in ((0, 7), (8, 15), (16, 31))
    ]
    identity = {"shards": "s", "model": model, "weight_table": table, "grad_norm_from": norms}
    chosen |= settings
    log = RunLog(folder, step=0)
    log.write("start", {"step": 0, "settings": chosen})
    for step in range(1, steps + 1):
        losses = [5 - step / 100 + seed, None, 4 - step / 100 + seed - gain]
        figures = {"step": step, "bucket_loss": losses, "bucket_targets": COUNTS}
        unweighted = (10 * (losses[0] or 0) + 30 * (losses[2] or 0)) / 40
        digest = f"{digests}{seed}{step}"
        record = figures | {"digest": digest, "unweighted_loss": unweighted, "skipped": False}
        if step in skipped:
            record |= {"bucket_loss": [None] * 3, "unweighted_loss": None, "skipped": True}
        log.write("step", record)
        if evaluated and step % 5 == 0:
            log.write("eval", figures | {"name": "books", "window": 32} | (measured or {}))
        if changed and step in changed:
            chosen = chosen | changed[step]
            log.write("start", {"step": step, "settings": chosen})
    log.close()
    run = {"model_folder": "/m", "longest_window": 32, "settings": chosen, "identity": identity}
    write_run(folder, run | {"buckets": buckets, "earlier": earlier})
    return str(folder)


def stage(weighting: str, **changes: Any) -> dict[str, Any]:
    """An earlier run, as one that comes from it has recorded it."""
    settings = {"out": f"{weighting}-4k", "seed": 0, "weighting": weighting, "beta1": 0.9,
                "keep": 2} | changes  # fmt: skip
    return {
        "step": settings.pop("step", 9),
        "meta": f"meta of {settings}",
        "identity": {"shards": settings.pop("shards", "4k"), "model": "m", "weight_table": None},
        "stretches": [{"after": 0, "settings": settings}],
        "earlier": settings.pop("earlier", None),
    }


Cell = tuple[str, int, str, int, float]
"""Of a probe: task, number, context, distance, gain."""


def write_probe(
    run: str, cells: Sequence[Cell], name: str = "probe-512-abc", **changes: Any
) -> None:
    """The files of an evaluation with the probe, by hand."""
    folder = Path(run) / "eval" / name
    folder.mkdir(parents=True, exist_ok=True)
    task, number, context, distance, gain = map(list, zip(*cells, strict=True))
    item = list(range(len(cells)))
    columns = {"task": task, "number": number, "context": context, "distance": distance}
    pq.write_table(pa.table({"item": item, **columns}), folder / "items.parquet")
    scores = {
        "item": [*item, *reversed(item)],
        "condition": ["evidence"] * len(item) + ["ablated"] * len(item),
        "logp_gold": [g - 9 for g in gain] + [-9.0] * len(item),
    }
    pq.write_table(pa.table(scores), folder / "scores.parquet")
    manifest = {
        "format": "exactcpt evaluation", "format_version": 1, "suite": "probe", "suite_version": 1,
        "length": 512, "tasks": ["number"], "seed": 0, "ablation": "replace",
        "haystack": "0" * 32, "tokenizer": "0" * 32, "items": "0" * 32, "model": "0" * 32,
        "step": 20, "tau": 128, "window": 512, "positions": 512, "extrapolated": False,
        "precision": "fp32", "device": "cpu", "versions": {"exactcpt": "0"}, "seconds": 1.0,
        "tokens": 1,
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest | changes))


def text_of(found: Comparison, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in comparison_tables(found, console):
        console.print(table)
    return console.export_text()
