import numpy as np
from hypothesis import given
from oracles import contexts_by_mask
from strategies import segments

from exactcpt.pipeline.core.context import effective_context


def test_worked_example():
    contexts = effective_context(np.array([3, 2, 4]))
    assert contexts.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert contexts.dtype == np.int32


@given(segments(largest_window=40))
def test_is_what_a_document_causal_mask_shows(drawn):
    lengths, _ = drawn
    assert effective_context(lengths).tolist() == contexts_by_mask(lengths.tolist())


@given(segments())
def test_each_context_of_a_segment_comes_once_in_order(drawn):
    lengths, _ = drawn
    expected = [context for length in lengths.tolist() for context in range(length)]
    assert effective_context(lengths).tolist() == expected


def test_no_segments():
    assert effective_context(np.array([], dtype=np.int32)).shape == (0,)
