"""What is measured on eval sets against plain Hugging Face, segment by segment, in this module."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from handmade import pack, shard_columns
from oracles import bucket_by_search
from ranks import on_ranks
from tiny import config, corpus, model_folder, shard_set
from transformers import AutoModelForCausalLM

from exactcpt.training.run.log import read_log
from exactcpt.training.train import train
from exactcpt.training.windows.order import permuted

pytestmark = pytest.mark.slow

TIMES = 3
WINDOWS = {"own": (64, 5), "longer": (128, 3)}  # tokens of one, how many

# In micro-batches of two and one windows: on two ranks, each set lacks one for the second rank.
SETTINGS = {"steps": 1, "eval_every": 1, "export_every": 1, "global_batch": 4, "micro_batch": 2}


def measured(made: Path, out: Path, settings: dict[str, Any]) -> None:
    sets = {name: str(made / name) for name in WINDOWS}
    train(config(made, out, shards=sets["own"], eval=sets, **(SETTINGS | settings)), lambda _: None)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    for name, (window, count) in WINDOWS.items():
        shard_set(folder / name, times=TIMES, window=window)
        assert len(pack(corpus(times=TIMES, window=window), "validation")) == count
    model_folder(folder / "model")
    measured(folder, folder / "ranks-1", {})
    on_ranks(2, [(measured, (folder, folder / "ranks-2", {}))])
    return folder


def evals(out: Path) -> dict[tuple[int, str], dict[str, Any]]:
    return {(r["step"], r["name"]): r for r in read_log(out) if r["kind"] == "eval"}


def plain(model: Path, window: int, numbers: list[int] | None = None) -> dict[str, Any]:
    """Mean cross-entropy of the targets of some windows, over all and by bucket."""
    causal_lm = AutoModelForCausalLM.from_pretrained(model)
    packed = corpus(times=TIMES, window=window)
    windows = pack(packed, "validation")
    columns = shard_columns(packed, windows)
    found: list[list[float]] = [[] for _ in range(bucket_by_search(window - 1) + 1)]
    for number in range(len(windows)) if numbers is None else numbers:
        ids, codes = (torch.tensor(columns[name][number]) for name in ("input_ids", "codes"))
        start = 0
        for length in columns["seq_lengths"][number]:
            segment = slice(start, start + length)
            start += length
            with torch.no_grad():
                logits = causal_lm(input_ids=ids[segment].unsqueeze(0)).logits[0]
            ce = F.cross_entropy(logits[:-1], ids[segment][1:], reduction="none")
            for context in range(1, length):
                if codes[segment][context]:
                    found[bucket_by_search(context)].append(ce[context - 1].item())
    every = [ce for bucket in found for ce in bucket]
    return {
        "loss": sum(every) / len(every),
        "targets": len(every),
        "bucket_loss": [sum(bucket) / len(bucket) if bucket else None for bucket in found],
        "bucket_targets": [len(bucket) for bucket in found],
    }


def assert_measured(record: dict[str, Any], expected: dict[str, Any]) -> None:
    for name in ("targets", "bucket_targets"):
        assert record[name] == expected[name], name
    for name in ("loss", "bucket_loss"):
        assert record[name] == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_before_the_first_step(made, ranks, name):
    window, count = WINDOWS[name]
    record = evals(made / f"ranks-{ranks}")[0, name]
    assert (record["window"], record["windows"]) == (window, count)
    assert_measured(record, plain(made / "model", window))


@pytest.mark.parametrize("name", WINDOWS)
@pytest.mark.parametrize("ranks", [1, 2])
def test_after_a_step(made, ranks, name):
    """The weights are those of the export of the same step."""
    out = made / f"ranks-{ranks}"
    expected = plain(out / "exports" / "step-00000001", WINDOWS[name][0])
    assert_measured(evals(out)[1, name], expected)
    assert expected["loss"] < evals(out)[0, name]["loss"] - 0.01


def test_some_windows_are_the_same_ones_for_every_seed(made, tmp_path):
    numbers = permuted(np.arange(3), WINDOWS["own"][1], 0).tolist()
    assert {*numbers} != {*permuted(np.arange(3), 5, 2).tolist()}
    expected = plain(made / "model", 64, numbers)
    for seed in (0, 2):
        measured(made, tmp_path / str(seed), {"eval_windows": 3, "seed": seed})
        record = evals(tmp_path / str(seed))[0, "own"]
        assert record["windows"] == 3
        assert_measured(record, expected)
