"""Slices of arrays, end to end: as a loop over the slices joins them, wherever Arrow cuts them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.files import slices
from exactcpt.pipeline.files.slices import Slices

TYPES = ("uint8", "int32", "int64")


@st.composite
def arrays_and_slices(draw):
    """Arrays of one type, and slices of them as triples of array, start and length."""
    kind = draw(st.sampled_from(TYPES))
    sizes = draw(st.lists(st.integers(0, 90), min_size=1, max_size=5))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    arrays = [random.integers(0, 256, size).astype(kind) for size in sizes]

    def some_slice(number: int):
        bounds = st.tuples(st.integers(0, sizes[number]), st.integers(0, sizes[number]))
        return bounds.map(lambda two: (number, min(two), max(two) - min(two)))

    number = st.integers(0, len(sizes) - 1)
    return arrays, draw(st.lists(number.flatmap(some_slice), max_size=30))


def joined(arrays, chosen) -> np.ndarray:
    array, start, length = np.array(chosen, np.int64).reshape(-1, 3).T
    return Slices(arrays).join(array, start, length)


@pytest.mark.parametrize("reach", [16, 40, 1 << 30])
@given(arrays_and_slices())
def test_slices_are_joined(reach, drawn):
    """With a short reach every array is many buffers, and a slice several views."""
    arrays, chosen = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "REACH", reach)
        found = joined(arrays, chosen)
    expected = [arrays[of][start : start + length] for of, start, length in chosen]
    assert found.tolist() == np.concatenate([arrays[0][:0], *expected]).tolist()
    assert found.dtype == arrays[0].dtype


@pytest.mark.parametrize(
    "wrong", [(0, 3, 3), (0, -1, 2), (0, 6, 0), (1, 0, 1), (0, 4, -1), (0, 2**63 - 4, 8)]
)
def test_a_slice_beyond_its_array_is_refused(wrong):
    arrays = [np.arange(5, dtype=np.int32), np.empty(0, np.int32)]
    assert joined(arrays, [(0, 3, 2), (1, 0, 0), (0, 5, 0)]).tolist() == [3, 4]
    with pytest.raises(IndexError, match="beyond its array"):
        joined(arrays, [(0, 0, 5), wrong])


def test_arrays_of_several_types_are_refused():
    with pytest.raises(TypeError, match="several types"):
        Slices([np.zeros(3, np.int32), np.zeros(3, np.int64)])


def test_arrays_are_not_copied():
    array = np.arange(100, dtype=np.int32)
    ten = Slices([array])
    array[50] = -1
    assert ten.join(np.zeros(1, np.int64), np.array([45]), np.array([10])).tolist() == [
        *range(45, 50), -1, *range(51, 55)
    ]  # fmt: skip
