"""What a person sees of the probe: facts beside each other, real text by itself."""

import io

from rich.console import Console

from exactcpt.training.evaluation.tables import evaluation_tables


def row(context, distance, gain=0.5):
    return {
        "task": None, "context": context, "distance": distance, "items": 3, "gain": gain,
        "preference": 0.5, "control": 0.125,
    }  # fmt: skip


def shown(*rows, width=80):
    found = {
        "model": "runs/exact", "suite": "probe", "length": 4096, "extrapolated": False, "tau": 1024,
        "rows": list(rows),
    }  # fmt: skip
    console = Console(width=width, record=True, file=io.StringIO())
    for table in evaluation_tables([found]):
        console.print(table)
    return console.export_text()


FACTS = [row(context, distance) for context in ("fixed", "minimal") for distance in (32, 4032)]
NATURAL = [row("document", 32), row("document", 2048, -0.0001)]


def test_real_text_has_a_table_of_its_own():
    text = shown(*FACTS, *NATURAL)
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines.count("runs/exact: probe, 4,096 tokens") == 1
    assert lines.count("runs/exact: probe, 4,096 tokens, natural") == 1
    assert text.count("4,032 *") == text.count("2,048 *") == 1
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "lifts the control above chance" in text
    assert "-0.000" not in text


def test_nothing_is_said_of_what_is_not_there():
    assert "natural" not in shown(*FACTS)
    assert "document" not in shown(*FACTS)
    alone = shown(*NATURAL)
    assert "fixed" not in alone
    assert alone.count("runs/exact: probe") == 1
