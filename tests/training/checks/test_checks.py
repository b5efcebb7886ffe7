"""Every check bites: a right trainer passes them all, and one mistake fails the check for it."""

import copy
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import pytest
import torch
import trainers
from tiny import shard_set
from trainers import WRONG, Trainer

from exactcpt.schemas.shard_set import open_set
from exactcpt.training.checks.checks import CHECKS, Bench, Result, run_checks
from exactcpt.training.checks.trainers import run_step
from exactcpt.training.checks.windows import Tried, choose_windows

PRECISIONS = {
    "fp32": (torch.float32, False),
    "fp64": (torch.float64, False),
    "bf16": (torch.bfloat16, False),
    "autocast": (torch.float32, True),
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> Tried:
    return choose_windows(open_set(shard_set(tmp_path_factory.mktemp("data") / "shards")))


def checked(trainer: Trainer, tried: Tried) -> dict[str, Result]:
    bench = Bench(partial(run_step, trainer.step, "trainer"), tried)
    return {result.check: result for result in run_checks(bench)}


def failing(results: dict[str, Result]) -> list[str]:
    return [name for name, result in results.items() if result.outcome == "fails"]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"denominators": trainers.weights_of_step},
        {"denominators": trainers.nothing},
    ],
    ids=["by targets", "by weights", "a sum"],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_right_trainer_passes(tried, parts, precision):
    dtype, autocast = PRECISIONS[precision]
    trainer = Trainer(model=trainers.Model().to(dtype), **parts)
    with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
        results = checked(trainer, tried)
    outcomes = {name: result.outcome for name, result in results.items()}
    expected = {check.name: "holds" for check in CHECKS} | {"ranks": "not asked"}
    assert outcomes == expected, results


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_fails_its_check_and_no_other(tried, mistake):
    parts, expected = copy.deepcopy(WRONG[mistake])
    results = checked(Trainer(**parts), tried)
    assert failing(results) == expected, results


@pytest.mark.parametrize(
    "mistake",
    ["first tokens are trained on", "weights are not shifted", "positions go on", "mean of means"],
)
def test_sums_are_told_apart_in_coarse_numbers(tried, mistake):
    parts, expected = copy.deepcopy(WRONG[mistake])
    with torch.autocast("cpu", torch.bfloat16):
        results = checked(Trainer(**parts), tried)
    assert failing(results) == expected, results


def test_every_check_has_a_mistake():
    assert {checks[0] for _, checks in WRONG.values()} == {check.name for check in CHECKS}


@pytest.mark.parametrize("mistake", ["weights are ignored", "one text", "mean of means"])
@pytest.mark.parametrize(
    "settings",
    [{"packing": "best_fit"}, {"window": 32}, {"window": 128, "packing": "best_fit"}],
    ids=["best_fit", "32", "128"],
)
def test_other_windows(tmp_path, settings, mistake):
    found = choose_windows(open_set(shard_set(tmp_path / "shards", times=2, **settings)))
    parts, expected = copy.deepcopy(WRONG[mistake])
    assert failing(checked(Trainer(), found)) == []
    assert failing(checked(Trainer(**parts), found)) == expected


def test_a_check_that_says_nothing_is_not_asked(tried):
    results = checked(Trainer(sees=trainers.whole_past), tried)
    assert results["place"].outcome == "not asked"
    assert results["place"].seen == '"documents do not see each other" fails'
    results = checked(Trainer(resets=False), tried)
    asked = [name for name, result in results.items() if result.outcome != "not asked"]
    assert asked == ["repeat"]


@pytest.mark.parametrize(
    ("parts", "check", "seen"),
    [
        ({}, "denominator", "the number of targets"),
        ({"denominators": trainers.weights_of_step}, "denominator", "the sum of the weights"),
        (
            {"denominators": trainers.nothing},
            "denominator",
            "a number that does not depend on the targets",
        ),
        (
            {"denominators": trainers.mean_of_means},
            "denominator",
            "2 targets of 38 count 5% in one micro-batch, 50% in two",
        ),
        ({}, "weights", "weight 3 counts 3.00 times weight 1"),
        ({"weights": trainers.squared}, "weights", "weight 3 counts 9.00 times weight 1"),
        ({"weights": trainers.ones}, "weights", "weight 3 counts 1.00 times weight 1"),
        (
            {"shift": trainers.shifted_twice},
            "shift",
            "labels are shifted by 2: twice, for example",
        ),
        (
            {"denominators": trainers.windows_of_step, "losses": trainers.per_window},
            "denominator",
            "each window is divided by a number of its own",
        ),
        ({"losses": lambda ce, w: (ce * w).sum() * 0}, "repeat", "the gradient is zero"),
    ],
)
def test_what_is_seen(tried, parts, check, seen):
    assert checked(Trainer(**parts), tried)[check].seen == seen


def test_only_the_end_token_crosses(tried):
    seen = checked(Trainer(sees=trainers.late_boundaries), tried)["documents"].seen
    assert seen.endswith("by end tokens alone: boundaries are off by one, or found by end tokens")


def test_a_noisy_device_hides_nothing(tried):
    """Gradients with noise of 1e-5: it is measured, and counts for nothing."""

    def noisy(trainer: Trainer) -> Trainer:
        step, draw = trainer.step, torch.Generator().manual_seed(0)

        def with_noise(batches):
            return {
                name: p.grad * (1 + 1e-5 * torch.randn(p.shape, generator=draw))
                for name, p in step(batches).named_parameters()
            }

        trainer.step = with_noise
        return trainer

    assert failing(checked(noisy(Trainer()), tried)) == []
    for mistake in ("one text", "weights are not shifted", "a sliding window", "mean of means"):
        parts, expected = copy.deepcopy(WRONG[mistake])
        assert failing(checked(noisy(Trainer(**parts)), tried)) == expected, mistake


def test_some_of_the_gradient_is_enough(tried):
    """A large model can return one layer's."""

    def only(trainer: Trainer) -> Trainer:
        step = trainer.step
        trainer.step = lambda batches: {"value": step(batches).value.grad, "unused": None}
        return trainer

    assert failing(checked(only(Trainer()), tried)) == []
    for mistake in ("one text", "weights are ignored", "labels are shifted twice"):
        parts, expected = copy.deepcopy(WRONG[mistake])
        assert failing(checked(only(Trainer(**parts)), tried)) == expected, mistake


def test_batches_are_those_of_the_data_set(tmp_path):
    """What a step gets is what `collate` makes of the windows of a `ShardDataset`."""
    from exactcpt.training.checks.windows import batch_of
    from exactcpt.training.windows.batches import ShardDataset, collate

    folder: Path = shard_set(tmp_path / "shards")
    found = choose_windows(open_set(folder))
    expected = collate([ShardDataset(folder)[found.numbers[1]]])
    batch = batch_of([found.second])
    assert batch.keys() == expected.keys()
    for name, values in expected.items():
        if name == "max_seqlen":
            assert batch[name] == values
        else:
            assert batch[name].dtype == values.dtype, name
            assert torch.equal(batch[name], values), name
