"""Comparing gradients: the same as NumPy's least squares on all their numbers in one row."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.training.checks.gradients import Gradient, change, misfit, resolution, shares

NUMBERS = st.floats(-4, 4).map(lambda x: round(x, 3))
GRADIENTS = st.lists(NUMBERS, min_size=6, max_size=6).map(
    lambda x: {"a": torch.tensor(x[:2]).double(), "b": torch.tensor(x[2:]).double().view(2, 2)}
)


def row(gradient: Gradient) -> np.ndarray:
    return np.concatenate([gradient[name].numpy().ravel() for name in ("a", "b")])


@given(GRADIENTS, GRADIENTS)
def test_change(one, other):
    difference = np.linalg.norm(row(one) - row(other))
    larger = max(np.linalg.norm(row(one)), np.linalg.norm(row(other)))
    assert change(one, other) == pytest.approx(difference / larger if larger else 0, abs=1e-12)


@given(GRADIENTS, GRADIENTS, GRADIENTS)
def test_shares(gradient, one, other):
    found = shares(gradient, one, other)
    columns = np.stack([row(one), row(other)], axis=1)
    sizes = np.linalg.norm(columns, axis=0)
    sine = 0.0
    if sizes.all():
        cosine = np.clip(columns[:, 0] @ columns[:, 1] / sizes.prod(), -1, 1)
        sine = math.sqrt(1 - cosine**2)
    if found is None:
        assert sine < 1e-3 + 1e-9
    else:
        assert sine > 1e-3 - 1e-9
        expected = np.linalg.lstsq(columns, row(gradient), rcond=None)[0]
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-6 / sine**2)


@given(GRADIENTS, GRADIENTS, GRADIENTS)
def test_misfit(gradient, one, other):
    rest, multiple = misfit(gradient, ((1.0, one), (3.0, other)))
    expected = (row(one) + 3 * row(other))[:, None]
    size = np.linalg.norm(row(gradient))
    if not size or not np.linalg.norm(expected):
        assert (rest, multiple) == (1.0, 0.0)
        return
    nearest = np.linalg.lstsq(expected, row(gradient), rcond=None)[0]
    left = np.linalg.norm(row(gradient) - expected @ nearest) / size
    assert rest == pytest.approx(left, abs=1e-9)
    assert multiple == pytest.approx(nearest[0], rel=1e-6, abs=1e-9)


def test_what_is_missing_is_zero():
    whole = {"a": torch.tensor([3.0]), "b": torch.tensor([4.0])}
    assert change(whole, {"a": torch.tensor([3.0])}) == pytest.approx(0.8)
    assert change({"a": torch.zeros(2)}, {}) == 0


def test_the_coarsest_type_counts():
    gradient = {"a": torch.ones(1, dtype=torch.float64), "b": torch.ones(1, dtype=torch.bfloat16)}
    assert resolution(gradient) == 2**-7
