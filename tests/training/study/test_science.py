"""The effect itself, in small: extra weight on far targets teaches a model to recall from afar.

The model in tests/data/recall-base recalls from nearby; tests/data/README.md says how it was made.
Forty steps, on documents of which few are long, are enough to tell weights with alpha 3 from none,
and from the same weight on the other targets of the same documents.
"""

import json

import pytest
from harness import DATA
from studies import run, written

from exactcpt.training.study.reading import read_study

pytestmark = pytest.mark.slow

STUDY = {
    "study": {"name": "science", "seeds": 1},
    "prepare": [
        {
            "makes": "world",
            "run": "recall-world world --fillers 16 --keys 24 --values 24 --window 512 --tau 128 "
            "--short 2K --mixed 300K",
        },
        {
            "makes": "mixed",
            "run": "prepare --source mixed=world/mixed.jsonl --tokenizer world/tokenizer "
            "--tokenizer-backend tokenizers --window 512 --tau 128 --alpha 3 --packing best_fit "
            "--validation-fraction 0.02 --out mixed",
        },
    ],
    "train": {
        "model": "BASE",
        "shards": "mixed",
        "precision": "fp32",
        "device": "cpu",
        "eval_every": 0,
        "save_every": 0,
        "global_batch": 4,
        "micro_batch": 4,
    },
    "stage": [{"name": "mixed", "steps": 40, "learning_rate": 1e-3, "warmup_steps": 5}],
    "arm": [{"name": "uniform"}, {"name": "exact"}, {"name": "near"}],
    "evaluate": {"lengths": [512], "items": 8, "haystack": "world/world.json"},
    "primary": [
        {"endpoint": "probe.far", "arm": "exact", "against": ["uniform"], "claim": "greater"}
    ],
}
SMALLEST = 0.05
"""Nats; three seeds gave 0.16 to 0.32."""


def test_weight_on_the_tail_teaches_recall_from_afar(tmp_path):
    base = str((DATA / "recall-base").resolve())
    written(tmp_path, **STUDY | {"train": STUDY["train"] | {"model": base}})
    assert [*read_study(str(tmp_path / "study.toml")).arms] == ["uniform", "exact", "near"]
    run(tmp_path, tmp_path / "out", "--jobs", "2")
    (stage,) = json.loads((tmp_path / "out" / "results.json").read_text())["stages"]
    assert stage["paired"]
    (evaluation,) = stage["evaluations"]
    far = next(
        each["arms"]
        for each in evaluation["endpoints"]
        if (each["name"], each["context"]) == ("far", "fixed")
    )
    assert far["exact"]["delta"] > SMALLEST
    assert far["near"]["delta"] < SMALLEST  # so it is the place, and the check can fail
