"""Steps that are skipped: what they leave, how they are counted, when they end a run."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_steps import GRADIENT, LOSS, TOLD, spoil
from ranks import on_ranks
from tiny import STEPS, config, shards_and_model, steps_of, stop_after, weights_of

from exactcpt.schemas.errors import ExactcptError, UsageError
from exactcpt.training import train as module
from exactcpt.training.run import log
from exactcpt.training.run.checkpoint_files import newest_checkpoint, read_meta
from exactcpt.training.run.log import read_log
from exactcpt.training.train import train

pytestmark = pytest.mark.slow

EXACT: dict[str, Any] = {"precision": "fp64", "micro_batch": 1}


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("bad"))


def assert_same(one: Path, other: Path, **close: float) -> None:
    found, expected = weights_of(one), weights_of(other)
    assert found.keys() == expected.keys()
    assert sum(torch.is_tensor(each) for each in expected.values()) > 60
    for name, tensor in expected.items():
        if torch.is_tensor(tensor):
            torch.testing.assert_close(found[name], tensor, **({"rtol": 0, "atol": 0} | close))


@pytest.fixture(scope="module")
def oracle(made, tmp_path_factory) -> Path:
    """A run whose third step does nothing to weights and optimizer, though it is good."""
    calls = iter(range(1, STEPS + 1))

    def but_the_third(optimizer: Any, *, skip: Any) -> None:
        if next(calls) != 3:
            optimizer.step()

    out = tmp_path_factory.mktemp("oracle") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "update", but_the_third)
        train(config(made, out), lambda _: None)
    return out


@pytest.mark.parametrize("how", [LOSS, GRADIENT, TOLD])
def test_what_a_skipped_step_leaves(made, oracle, tmp_path, monkeypatch, how):
    """Order and learning rates go on, weights and optimizer are as if nothing had been done."""
    told: list[str] = []
    spoil(monkeypatch, {3: how})
    outcome = train(config(made, tmp_path / "run"), told.append)
    assert (outcome.finished, outcome.step, outcome.skipped) == (True, STEPS, 1)
    assert_same(tmp_path / "run", oracle)
    steps = steps_of(tmp_path / "run")
    assert [step["skipped"] for step in steps] == [False, False, True, False, False, False]
    for step, expected in zip(steps, steps_of(oracle), strict=True):
        same = ("digest", "learning_rate", "targets") if step["step"] == 3 else step.keys()
        assert {name: step[name] for name in same} == {name: expected[name] for name in same}
    (record,) = [r for r in read_log(tmp_path / "run") if r["kind"] == "skipped"]
    assert (record["step"], record["skipped"]) == (3, 1)
    found = "the gradient is not finite, though every loss is"
    assert record["error"] == f"step 3: {found if how == GRADIENT else 'the loss is not finite'}"
    (line,) = [line for line in told if line.startswith("warning: ")]
    assert line == (f"warning: {record['error']} ({record['where']}); the step is skipped, 1 of 10")


def test_a_run_that_goes_on_counts_on(made, tmp_path, monkeypatch):
    out = tmp_path / "run"
    spoil(monkeypatch, {2: LOSS, 5: GRADIENT})
    settings = {"max_bad_steps": 1, "log_every": 100}
    assert not train(config(made, out, **settings | {"log_every": 1}), stop_after(3)).finished
    checkpoint = newest_checkpoint(out)
    assert checkpoint is not None
    assert read_meta(checkpoint)["skipped"] == 1
    (out / "log.jsonl").unlink()  # the checkpoint is what counts
    with pytest.raises(ExactcptError) as caught:
        train(config(made, out, **settings), lambda _: None)
    assert caught.value.found == (
        "step 5: the gradient is not finite, though every loss is; 1 earlier step was skipped for "
        "the same reason"
    )
    assert (caught.value.fix or "").endswith(
        "try a lower learning rate, allow more such steps with --max-bad-steps"
    )
    outcome = train(config(made, out, max_bad_steps=2), lambda _: None)
    assert (outcome.finished, outcome.skipped) == (True, 2)
    train(config(made, tmp_path / "straight"), lambda _: None)
    assert_same(out, tmp_path / "straight")


def test_gradient_norms_of_a_run_that_skipped_a_step(made, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        spoil(patch, {2: LOSS})
        train(config(made, tmp_path / "there", steps=3), lambda _: None)
    with pytest.raises(UsageError, match="the gradient norms skipped step 2: its loss or gradient"):
        train(
            config(made, tmp_path / "run", steps=3, grad_norm_from=str(tmp_path / "there")),
            lambda _: None,
        )


def skip_on_one(made: Path, out: Path, steps: dict[int, str], ranks: int, here: int) -> int:
    """Trains; steps of the last rank alone are spoiled. How many were skipped.

    Args:
        made, out: folders of the inputs and of the run.
        steps: how each is spoiled.
        ranks: how many there are.
        here: how many of them believe to be on one machine.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_WORLD_SIZE", str(here))
        if os.environ["RANK"] == str(ranks - 1):
            spoil(patch, steps)
        return train(config(made, out, **EXACT), lambda _: None).skipped


@pytest.mark.parametrize(("ranks", "here"), [(2, 2), (4, 2)])
def test_one_of_several_ranks(made, tmp_path, monkeypatch, ranks, here):
    """All ranks skip a step together, whichever met what is not finite, on whichever machine."""
    spoiled = {2: LOSS, 3: TOLD, 5: GRADIENT}
    found = on_ranks(ranks, [(skip_on_one, (made, tmp_path / "all", spoiled, ranks, here))])
    assert found == [[3] * ranks]
    spoil(monkeypatch, spoiled)
    train(config(made, tmp_path / "one", **EXACT), lambda _: None)
    assert_same(tmp_path / "all", tmp_path / "one", rtol=1e-10, atol=1e-12)
    where = [r["where"] for r in read_log(tmp_path / "all") if r["kind"] == "skipped"]
    assert all(each.startswith(f"rank {ranks - 1}, ") for each in where[:2])
    kept = [step["loss"] for step in steps_of(tmp_path / "one") if step["step"] in (1, 4, 6)]
    others = [step["loss"] for step in steps_of(tmp_path / "all") if step["step"] in (1, 4, 6)]
    assert others == pytest.approx(kept, rel=1e-10)
