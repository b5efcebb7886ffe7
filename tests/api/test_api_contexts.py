"""Contexts and weights of anybody's windows, in every way that segments are given."""

from itertools import accumulate
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import exactcpt
from exactcpt.pipeline.core.buckets import bucket_of

WINDOW = 64


@st.composite
def windows(draw) -> list[int]:
    """Lengths of segments, at most a window's tokens together."""
    lengths: list[int] = []
    left = draw(st.integers(0, WINDOW))
    while left:
        lengths.append(draw(st.integers(1, left)))
        left -= lengths[-1]
    return lengths


def slow_contexts(lengths: list[int], tokens: int) -> list[int]:
    """Token by token; 0 for padding."""
    contexts = [context for n in lengths for context in range(n)]
    return contexts + [0] * (tokens - len(contexts))


def made_table(**changes: Any) -> exactcpt.WeightTable:
    counts = exactcpt.histogram([[40, 20], [64], [9, 9, 9]], window=WINDOW)
    return exactcpt.weight_table(counts, window=WINDOW, tau=16, **{"alpha": 0.5, **changes})


TABLE = {"table": made_table()}


def slow_weights(table: exactcpt.WeightTable, lengths: list[int], tokens: int) -> list[np.float32]:
    return [
        np.float32(table.rows[bucket_of(context)].weight if context else 0)
        for context in slow_contexts(lengths, tokens)
    ]


def ways(lengths: list[int], tokens: int) -> list[tuple[dict[str, Any], list[int]]]:
    """The arguments that describe segments, and the segments that they then have."""
    padding = [0] * (tokens - sum(lengths))
    positions = [context for n in lengths for context in range(n)] + padding
    return [
        ({"seq_lengths": lengths, "tokens": tokens}, lengths),
        ({"cu_seqlens": [0, *accumulate(lengths)], "tokens": tokens}, lengths),
        ({"position_ids": positions}, lengths),
    ]


def as_kind(arguments: dict[str, Any], kind: Any) -> dict[str, Any]:
    return {n: v if n == "tokens" else kind(v) for n, v in arguments.items()}


KINDS = {
    "numpy int32": lambda values: np.array(values, np.int32),
    "numpy uint64": lambda values: np.array(values, np.uint64),
    "torch int32": lambda values: torch.tensor(values, dtype=torch.int32),
    "torch int64": lambda values: torch.tensor(values, dtype=torch.int64),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(lengths=windows(), more=st.integers(0, 9))
def test_contexts_and_weights_token_by_token(kind, lengths, more):
    table, tokens = made_table(), sum(lengths) + more
    for arguments, segments in ways(lengths, tokens):
        given_ = as_kind(arguments, KINDS[kind])
        contexts = exactcpt.effective_context(**given_)
        found = exactcpt.weights(table=table, **given_)
        for values, expected, numpy_type, torch_type in (
            (contexts, slow_contexts(segments, tokens), np.int64, torch.int64),
            (found, slow_weights(table, segments, tokens), np.float32, torch.float32),
        ):
            if kind.startswith("numpy"):
                assert values.dtype == numpy_type
                assert values.tolist() == expected
            else:
                assert values.dtype == torch_type
                assert values.tolist() == [float(value) for value in expected]


def test_lists_are_taken_and_the_window_is_that_of_the_table():
    table = made_table()
    found = exactcpt.weights(table=table, seq_lengths=[30, 20])
    assert found.tolist() == slow_weights(table, [30, 20], WINDOW)
    found[0] = 7  # the caller's own
    assert exactcpt.weights(table=table, seq_lengths=[30, 20])[0] == 0


def test_position_ids_of_a_batch():
    positions = np.array([[[0, 1, 2], [0, 0, 1]], [[0, 1, 0], [0, 1, 2]]])
    table = made_table()
    found = exactcpt.weights(table=table, position_ids=positions)
    assert found.shape == positions.shape
    assert (found > 0).tolist() == (positions > 0).tolist()
    assert exactcpt.effective_context(position_ids=positions).tolist() == positions.tolist()
    on_torch = exactcpt.weights(table=table, position_ids=torch.from_numpy(positions))
    assert on_torch.numpy().tolist() == found.tolist()


def test_several_windows_end_to_end():
    """As flash attention takes a batch: boundaries over all of its tokens."""
    table = made_table()
    batch = exactcpt.weights(table=table, cu_seqlens=[0, 40, 64, 128], tokens=2 * WINDOW)
    alone = [exactcpt.weights(table=table, seq_lengths=lengths) for lengths in ([40, 24], [64])]
    assert batch.tolist() == np.concatenate(alone).tolist()


def test_boundaries_of_no_token_are_no_segment():
    """Kernels take them, and fixed shapes need them."""
    boundaries = [0, 0, 5, 5, 9, 9, 9]
    for given_ in (boundaries, torch.tensor(boundaries)):
        found = exactcpt.effective_context(cu_seqlens=given_, tokens=12)
        assert found.tolist() == slow_contexts([5, 4], 12)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seq_lengths", "cu_seqlens", "position_ids"])
def test_it_compiles_into_one_graph(name):
    table = made_table()

    @torch.compile(fullgraph=True, backend="aot_eager")
    def compiled(values: torch.Tensor) -> torch.Tensor:
        more = {} if name == "position_ids" else {"tokens": WINDOW}
        return exactcpt.weights(table=table, **{name: values}, **more) * 2

    for lengths in ([40, 24], [10, 20, 30], [64]):
        (arguments,) = (a for a, _ in ways(lengths, WINDOW) if name in a)
        expected = 2 * np.array(slow_weights(table, lengths, WINDOW))
        assert compiled(torch.tensor(arguments[name])).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "none given; expected: one of seq_lengths, cu_seqlens, position_ids"),
        ({"seq_lengths": [1], "cu_seqlens": [0, 1]}, "seq_lengths, cu_seqlens given; expected"),
        ({"seq_lengths": [3, 0]}, "a segment has 0 tokens; expected: at least 1"),
        ({"seq_lengths": [3, -1]}, "a segment has -1 tokens"),
        ({"seq_lengths": [3.0, 1.0]}, "array of float64 of shape (2,); expected: one integer"),
        ({"seq_lengths": [[3, 1]]}, "of shape (1, 2); expected: one integer per segment"),
        ({"seq_lengths": [60, 5]}, "the segments have 65 tokens; expected: at most 64"),
        ({"seq_lengths": [65], "tokens": 99}, "a segment has 65 tokens; expected: at most the win"),
        ({"cu_seqlens": [1, 5]}, "cu_seqlens is an array of int64 of shape (2,); expected: int"),
        ({"cu_seqlens": []}, "expected: integers that rise from 0"),
        ({"cu_seqlens": [0, 5, 3]}, "cu_seqlens falls; expected: integers that rise from 0"),
        ({"position_ids": [0, 1, 3]}, "position_ids[2] is 3; expected: 0, where a segment begins"),
        ({"position_ids": [[0, 1], [1, 2]]}, "position_ids[1, 0] is 1; expected: 0"),
        ({"position_ids": [0, -1]}, "position_ids[1] is -1"),
        ({"position_ids": 3}, "position_ids is an array of int64 of shape (); expected: integers"),
        ({"position_ids": [0], "tokens": 1}, "tokens is 1; expected: a length, with seq_lengths"),
        ({"seq_lengths": [1], "tokens": -1}, "tokens is -1; expected: a length"),
        ({"seq_lengths": [2**63 - 1, 2**63 - 1, 5]}, "a segment has 9,223,372,036,854,775,807 tok"),
        ({"seq_lengths": [1], "mask": [True]}, "mask is of shape (1,); expected: that of"),
        ({"position_ids": [0.0, 1.0]}, "an array of float64"),
        ({"position_ids": [*range(65)]}, "position_ids has 64; expected: less than the window"),
        ({"seq_lengths": torch.tensor([1.5])}, "seq_lengths is a tensor of torch.float32"),
        ({"cu_seqlens": torch.tensor([[0, 1]])}, "of shape (1, 2); expected: one dimension"),
    ],
)  # fmt: skip
def test_what_describes_no_segments_is_refused(arguments, message):
    with pytest.raises(ValueError) as caught:
        exactcpt.weights(table=made_table(), **arguments)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["seq_lengths", "cu_seqlens"])
def test_tensors_need_to_be_told_their_length(name):
    """A batch of two windows must not get the weights of its first."""
    segments = {name: torch.tensor([0, 64, 128])}
    for function, more in ((exactcpt.effective_context, {}), (exactcpt.weights, TABLE)):
        with pytest.raises(ValueError, match="tokens is missing; expected: with a tensor of"):
            function(**segments, **more)


def test_what_is_not_text_is_masked():
    """Padding between the windows of a batch is a segment to attention."""
    table, text = made_table(), np.array([True] * 40 + [False] * 24 + [True] * 64)
    for kind in (np.array, torch.tensor):
        found = exactcpt.weights(
            table=table, cu_seqlens=kind([0, 40, 64, 128]), tokens=128, mask=kind(text)
        )
        alone = [exactcpt.weights(table=table, seq_lengths=lengths) for lengths in ([40], [64])]
        assert found.tolist() == np.concatenate(alone).tolist()


def test_weights_are_float32_whatever_the_default_is():
    expected = exactcpt.weights(table=made_table(), position_ids=torch.arange(64))
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = exactcpt.weights(table=made_table(), position_ids=torch.arange(64))
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_narrow_integers_do_not_wrap():
    """Positions beyond 127 in int8, as a careless cast makes them."""
    wrapped = np.arange(200).astype(np.int8)
    with pytest.raises(ValueError, match=r"position_ids\[128\] is -128; expected: 0"):
        exactcpt.effective_context(position_ids=wrapped)
    assert exactcpt.effective_context(position_ids=np.arange(200, dtype=np.uint8)).max() == 199


def test_a_kind_of_tensor_is_a_tensor():
    class Own(torch.Tensor):
        pass

    found = exactcpt.effective_context(position_ids=torch.arange(5).as_subclass(Own))
    assert isinstance(found, torch.Tensor)


def test_contexts_are_the_callers_own():
    for positions in (np.arange(5), torch.arange(5)):
        exactcpt.effective_context(position_ids=positions)[0] = 7
        assert positions[0] == 0
