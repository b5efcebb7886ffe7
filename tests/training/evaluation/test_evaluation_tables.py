"""What a person sees of evaluations: every figure whole, in any width."""

import random
import re

import pytest

from exactcpt.training.evaluation import cli


def found(suite: str, rows: list[dict]) -> dict:
    return {"model": "a-model-with-a-name", "suite": suite, "length": 131_072, "tau": 4096,
            "extrapolated": True, "rows": rows}  # fmt: skip


@pytest.mark.parametrize("width", [60, 72, 80, 120])
def test_every_figure_stands_whole(width, monkeypatch, capsys):
    draw = random.Random(width)
    probe = [
        {"task": None, "context": context, "distance": distance, "gain": draw.uniform(-99, 99),
         "preference": draw.random(), "control": draw.random()}
        for context in ("fixed", "minimal") for distance in (8, 1024, 131_072)
    ]  # fmt: skip
    tables = ("bucket", "gain-128", "gain-512", "gain-tau", "recurrence")
    buckets = [
        {"table": table, "low": low, "high": 2 * low - 1, "targets": draw.randint(1, 10**12),
         "mean": draw.uniform(0, 99)}
        for table in tables for low in (8, 65_536)
    ]  # fmt: skip
    monkeypatch.setenv("COLUMNS", str(width))
    cli._print([found("probe", probe), found("buckets", buckets)])
    text = capsys.readouterr().out
    figures = [f"{row['gain']:+.3f}" for row in probe]
    figures += [f"{row[name]:.3f}" for row in probe for name in ("preference", "control")]
    figures += [f"{row['distance']:,}" for row in probe]
    for row in buckets:
        sign = "+" if row["table"].startswith("gain") else ""
        figures += [f"{row['mean']:{sign}.4f}", f"{row['low']:,}-{row['high']:,}"]
        if row["table"] in ("bucket", "recurrence"):
            figures.append(f"{row['targets']:,}")
    assert [
        f for f in figures if not re.search(rf"(?<![^\s│]){re.escape(f)}(?![^\s│])", text)
    ] == []
    assert "…" not in text
