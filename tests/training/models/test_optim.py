import math

import pytest
import torch
from torch import nn

from exactcpt.training.config import TrainConfig
from exactcpt.training.models.optim import (
    clip,
    gradient_of_loss,
    learning_rate,
    make_optimizer,
    schedule_cautions,
    update,
)


def config(**settings) -> TrainConfig:
    return TrainConfig(**({"shards": "s", "model": "m", "out": "o"} | settings))


def rates(steps: int, **settings) -> list[float]:
    chosen = config(learning_rate=1.0, **settings)
    return [learning_rate(step, steps, chosen) for step in range(1, steps + 1)]


def test_cosine():
    found = rates(12, warmup_steps=4, final_learning_rate=0.2)
    half = [0.2 + 0.8 * (1 + math.cos(math.pi * k / 8)) / 2 for k in range(1, 9)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, *half])
    assert found[-1] == pytest.approx(0.2)


def test_warmup_stable_decay():
    found = rates(10, schedule="wsd", warmup_steps=2, decay_steps=4, final_learning_rate=0.0)
    assert found == pytest.approx([0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_a_tenth_of_the_run_decays():
    found = rates(100, schedule="wsd", warmup_steps=0, final_learning_rate=0.5)
    assert found[:90] == [1.0] * 90
    assert found[90:] == pytest.approx([1 - 0.05 * k for k in range(1, 11)])


@pytest.mark.parametrize("settings", [{}, {"schedule": "wsd", "decay_steps": 50}])
def test_a_warmup_longer_than_the_run(settings):
    assert rates(3, warmup_steps=6, **settings) == pytest.approx([1 / 6, 2 / 6, 3 / 6])


def test_no_warmup_and_no_decay():
    assert rates(3, warmup_steps=0, schedule="wsd", decay_steps=0) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"warmup_steps": 20},
            "the warm-up takes 20 steps and the run has 10: the learning rate rises to 0.5 and "
            "does not fall",
        ),
        (
            {"warmup_steps": 10},
            "the warm-up takes 10 steps and the run has 10: the learning rate rises to 1 and does "
            "not fall",
        ),
        ({"warmup_steps": 9}, None),
        (
            {"schedule": "wsd", "warmup_steps": 2, "decay_steps": 9},
            "the learning rate should fall over 9 steps, but after the warm-up the run has only 8",
        ),
        ({"schedule": "wsd", "warmup_steps": 2, "decay_steps": 8}, None),
        ({"schedule": "wsd", "warmup_steps": 2}, None),
        ({"warmup_steps": 2, "decay_steps": 9}, None),
    ],
)
def test_a_run_too_short_for_its_schedule(settings, line):
    said = list(schedule_cautions(10, config(learning_rate=1.0, **settings)))
    assert said == ([] if line is None else [line])


def test_a_decay_longer_than_the_run():
    found = rates(4, schedule="wsd", warmup_steps=2, decay_steps=9, final_learning_rate=0.0)
    assert found == [0.5, 1.0, 0.5, 0.0]


def test_matrices_alone_decay():
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    groups = make_optimizer(model, config(weight_decay=0.3)).param_groups
    assert [(g["weight_decay"], len(g["params"])) for g in groups] == [(0.3, 1), (0.0, 3)]
    assert all(g["fused"] and g["betas"] == (0.9, 0.95) for g in groups)


@pytest.mark.parametrize(
    ("longest", "to", "scale"),
    [
        (0, None, 1.0), (10.0, None, 1.0), (2.5, None, 0.5), (0, 5.0, 1.0), (0, 15.0, 3.0),
        (0, 0.0, 0.0), (10.0, 15.0, 2.0), (2.5, 1.0, 0.2),
    ],
)  # fmt: skip
def test_scaling_and_clipping(longest, to, scale):
    weights = [torch.zeros(2, requires_grad=True), torch.zeros(1, requires_grad=True)]
    unused = torch.zeros(5, requires_grad=True)
    gradients = [torch.tensor([3.0, 0.0]), torch.tensor([4.0])]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.grad = gradient.clone()
    assert clip([*weights, unused], longest, to).item() == 5.0
    for weight, gradient in zip(weights, gradients, strict=True):
        assert weight.grad is not None
        assert torch.allclose(weight.grad, gradient * scale, rtol=1e-5)


def test_a_gradient_of_zero_stays_zero():
    weight = torch.zeros(3, requires_grad=True)
    weight.grad = torch.zeros(3)
    assert clip([weight], 1.0, to=2.0).item() == 0.0
    assert weight.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("per_window", "expected"),
    [([1.0, 2.0], 1.0), ([math.nan, 2.0], math.nan), ([1.0, math.inf], math.nan)],
)
def test_a_cross_entropy_that_is_not_finite_is_in_the_norm(dtype, per_window, expected):
    """Whatever the loss: it is infinite only in what is told, and its gradient is not."""
    weights = [torch.ones(3, dtype=dtype, requires_grad=True) for _ in range(2)]
    loss = torch.stack([weight.sum() for weight in weights]).sum()
    start = gradient_of_loss(loss, torch.tensor(per_window))
    assert start.dtype == dtype
    loss.backward(start)
    for weight in weights:
        assert torch.equal(
            weight.grad.nan_to_num(-1), torch.full_like(weight, expected).nan_to_num(-1)
        )
    assert clip(weights, 0.0).isfinite() == math.isfinite(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("skipped", [{1}, {2}, {1, 2}, {2, 3}])
def test_a_skipped_step_leaves_everything(dtype, skipped):
    """Equal, bit by bit, to never having been asked for; its gradients are no numbers."""

    def after(*, asked: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).to(dtype)
        optimizer = make_optimizer(model, config(learning_rate=0.1))
        for step in range(1, 5):
            skip = step in skipped
            for weight in model.parameters():
                drawn = torch.randn(weight.shape, dtype=dtype)
                weight.grad = torch.full_like(drawn, math.nan) if skip else drawn
            if asked or not skip:
                update(optimizer, skip=torch.tensor(skip))
        state = [t for each in optimizer.state.values() for t in each.values()]
        return [*model.parameters(), *state]

    for with_skips, without in zip(after(asked=True), after(asked=False), strict=True):
        assert torch.equal(with_skips, without)
