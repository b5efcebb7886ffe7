"""What a run will take, told before: nothing but settings and config.json is read."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from handmade import Corpus
from harness import run as run_command
from tiny import config, corpus, set_of, shard_set, shards_and_model

from exactcpt.schemas import shard
from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.schemas.shard_windows import ShardWindows
from exactcpt.training.models.costs import outline
from exactcpt.training.models.model import open_config
from exactcpt.training.run.forecast import CARDS, LEAST_MFU, MOST_MFU, forecast
from exactcpt.training.run.metrics import Flops, known_peak

BATCH = {"global_batch": 8, "micro_batch": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Shards and a model without its weights."""
    made = shards_and_model(tmp_path_factory.mktemp("forecast"))
    (made / "model" / "model.safetensors").unlink()
    return made


def test_every_card_has_a_known_peak():
    for name, room in CARDS.values():
        bf16, fp32, fp64 = (known_peak(name, each) for each in ("bf16", "fp32", "fp64"))
        assert bf16 > 10 * fp32 >= 10 * fp64
        assert room >= 80e9


def test_hours_are_those_of_mfu(made, tmp_path):
    """A run of these hours at this speed has that MFU, by the log's own arithmetic."""
    found = forecast(config(made, tmp_path / "run", **BATCH), "h200", [])
    assert [each.ranks for each in found.on] == [1, 8]
    assert (found.steps, found.tokens, found.window) == (6, 6 * 8 * 64, 64)
    for each in found.on:
        for speed, hours, mfu in zip(
            each.tokens_per_second, reversed(each.hours), (LEAST_MFU, MOST_MFU), strict=True
        ):
            assert speed * hours * 3600 == pytest.approx(found.tokens)
            flops = Flops.of_model(outline(open_config(made / "model")), 66.9, each.ranks)
            visible = round(found.context * found.tokens)
            used = flops.used(found.tokens, visible, hours * 3600)
            assert used == pytest.approx(mfu, rel=1e-3)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("precision", ["bf16", "fp32", "fp64"])
def test_hours_are_those_of_the_precision(made, tmp_path, precision):
    chosen = config(made, tmp_path / "run", precision=precision, **BATCH)
    found = forecast(chosen, "a100", [1])
    assert found.peak == {"bf16": 312.0, "fp32": 19.5, "fp64": 19.5}[precision]
    other = forecast(config(made, tmp_path / "run", precision="bf16", **BATCH), "a100", [1])
    times = found.on[0].hours[0] / other.on[0].hours[0]
    assert times == pytest.approx(312 / found.peak)
    given = config(made, tmp_path / "run", precision=precision, peak_tflops=1.0, **BATCH)
    assert forecast(given, "a100", [1]).peak == 1.0


def attended(folder: Path) -> float:
    """Tokens that a token sees, on average: each token of each segment is looked at."""
    windows = ShardWindows(open_set(folder), shard.TRAIN)
    lengths = [n for i in range(len(windows)) for n in windows[i].lengths.tolist()]
    return float(np.mean([place + 1 for n in lengths for place in range(n)]))


def test_the_context_is_that_of_all_tokens(made, tmp_path):
    found = forecast(config(made, tmp_path / "run", **BATCH), "h100", [1])
    assert found.context == pytest.approx(attended(made / "shards"))
    assert not found.is_bound
    longer = forecast(config(made, tmp_path / "run", steps=None, **BATCH), "h100", [2])
    assert longer.steps == 1  # one epoch of 10 windows
    assert [each.ranks for each in longer.on] == [2]


def test_tokens_that_are_no_targets_are_attended_too(made, tmp_path):
    """Questions are computed like answers: which tokens are supervised changes no hour."""
    asked = [replace(each, answers=((0, 1),)) for each in corpus().documents]
    set_of(tmp_path / "qa", Corpus([("a", asked)]))
    other = config(made, tmp_path / "run", **BATCH | {"shards": str(tmp_path / "qa")})
    assert forecast(other, "h100", [1]).context == pytest.approx(attended(tmp_path / "qa"))


def test_a_mix_attends_as_its_sets_by_their_shares(made, tmp_path):
    other = str(shard_set(tmp_path / "other", times=2, packing="best_fit"))
    own = str(made / "shards")
    mix = {"shards": own, "mix": {own: "0.3", other: "0.7"}, "weighting": "uniform"}
    found = forecast(config(made, tmp_path / "run", **BATCH | mix), "h100", [1]).context
    first, second = (attended(Path(each)) for each in (own, other))
    assert first != second
    assert found == pytest.approx(0.3 * first + 0.7 * second)


def test_ranks_that_cannot_share(made, tmp_path):
    assert [each.ranks for each in forecast(config(made, tmp_path / "run"), "h100", []).on] == [1]
    with pytest.raises(UsageError, match="global_batch is 4, with micro_batch 2 on 8 ranks"):
        forecast(config(made, tmp_path / "run"), "h100", [8])


def test_the_command(made, tmp_path):
    arguments = ["train", "--shards", str(made / "shards"), "--model", str(made / "model")]
    arguments += ["--out", str(tmp_path / "run"), "--steps", "6", "--dry-run"]
    found = run_command(*arguments)
    assert found.code == 0
    assert "h100 has 80 GB" in found.out
    assert "8 GPUs" in found.out
    told = json.loads(run_command(*arguments, "--json", "--card", "b200").out)
    assert told["card"] == "b200"
    assert told["on"][0]["memory"]["total"] > told["on"][1]["memory"]["total"]
    assert not (tmp_path / "run").exists()
