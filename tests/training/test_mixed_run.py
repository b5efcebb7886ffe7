"""Training on a mix of shard sets."""

import numpy as np
import pytest
from tiny import config, model_folder, shard_set, steps_of, stop_after

from exactcpt.schemas.errors import UsageError
from exactcpt.training.run import log
from exactcpt.training.run.log import read_run
from exactcpt.training.run.order import read_order
from exactcpt.training.train import train


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    shard_set(folder / "shards")
    shard_set(folder / "more", times=3)
    model_folder(folder / "model")
    return folder


def mixed(made, out, first="0.75", second="0.25", **settings):
    mix = {str(made / "shards"): first, str(made / "more"): second}
    chosen = {"weighting": "uniform", "mix": mix, "steps": 5} | settings
    return config(made, out, **chosen)


def test_a_step_counts_the_windows_of_each_set(made, tmp_path):
    lines: list[str] = []
    train(mixed(made, tmp_path / "run"), lines.append)
    counts = np.array([step["mix"] for step in steps_of(tmp_path / "run")])
    assert counts.sum(axis=1).tolist() == [4] * 5
    assert counts.sum(axis=0).tolist() == [15, 5]  # blocks of 4 windows
    told = [line for line in lines if line.startswith("mix:")]
    assert len(told) == 2
    assert "75.00% of the windows" in told[0]


def test_a_mixed_run_goes_on_where_it_stopped(made, tmp_path, monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)
    train(mixed(made, tmp_path / "whole"), lambda _: None)
    assert not train(mixed(made, tmp_path / "parts"), stop_after(2)).finished
    assert train(mixed(made, tmp_path / "parts"), lambda _: None).finished
    assert steps_of(tmp_path / "whole") == steps_of(tmp_path / "parts")


def test_a_run_with_another_mix_is_another_run(made, tmp_path):
    train(mixed(made, tmp_path / "run", steps=1), lambda _: None)
    for other in (
        mixed(made, tmp_path / "run", "0.5", "0.5"),
        config(made, tmp_path / "run", weighting="uniform"),
    ):
        with pytest.raises(UsageError, match="the run cannot continue with other inputs"):
            train(other, lambda _: None)


def test_one_set_alone_has_the_identity_that_it_always_had(made, tmp_path):
    train(config(made, tmp_path / "run", steps=1), lambda _: None)
    recorded = read_run(tmp_path / "run")
    assert "mix" not in recorded["identity"]
    assert "mix" not in steps_of(tmp_path / "run")[0]


def test_the_steps_of_a_mixed_run_are_not_those_of_one_set(made, tmp_path):
    train(mixed(made, tmp_path / "run", steps=1), lambda _: None)
    with pytest.raises(UsageError, match="the run trains on a mix of shard sets"):
        read_order(tmp_path / "run")


def test_sets_with_other_weights_need_a_table(made, tmp_path):
    shard_set(tmp_path / "other", alpha=0.9)
    mix = {str(made / "shards"): "0.5", str(tmp_path / "other"): "0.5"}
    with pytest.raises(UsageError, match="the sets of a mix have different weights"):
        train(config(made, tmp_path / "run", mix=mix), lambda _: None)
    settings = config(made, tmp_path / "run", mix=mix, weighting="uniform", steps=1)
    assert train(settings, lambda _: None).finished
