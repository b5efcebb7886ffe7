"""What a run will take, told before: nothing but settings and config.json is read."""

import json
from pathlib import Path

import pytest
from harness import run as run_command
from tiny import config, shards_and_model

from exactcpt.schemas.errors import UsageError
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
        assert known_peak(name)
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
            flops = Flops.of_model(outline(open_config(made / "model")), 989.4, each.ranks)
            visible = round(found.context * found.tokens)
            used = flops.used(found.tokens, visible, hours * 3600)
            assert used == pytest.approx(mfu, rel=1e-3)
    assert not (tmp_path / "run").exists()


def test_the_context_is_that_of_the_shards(made, tmp_path):
    found = forecast(config(made, tmp_path / "run", **BATCH), "h100", [1])
    assert 10 < found.context < 64
    longer = forecast(config(made, tmp_path / "run", steps=None, **BATCH), "h100", [2])
    assert longer.steps == 1  # one epoch of 10 windows
    assert [each.ranks for each in longer.on] == [2]


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
