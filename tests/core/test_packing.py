from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import best_fit_by_piece, concat_by_stream, room_left, windows_of
from strategies import documents

from exactcpt.pipeline.core.choices import PACKINGS
from exactcpt.pipeline.core.packing import best_fit, concat, pack, reorder_windows

A, B, C = 0, 1, 2
both = pytest.mark.parametrize("packing", PACKINGS)


def test_worked_example_concat():
    packed = concat(np.array([3, 2, 5]), 4)
    assert windows_of(packed) == [
        [(A, 0, 3), (B, 0, 1)],
        [(B, 1, 1), (C, 0, 3)],
        [(C, 3, 2)],
    ]
    assert (packed.windows, packed.padding) == (3, 2)


def test_worked_example_best_fit():
    packed = best_fit(np.array([3, 2, 5]), 4)
    assert windows_of(packed) == [
        [(C, 0, 4)],
        [(A, 0, 3), (C, 4, 1)],
        [(B, 0, 2)],
    ]
    assert (packed.windows, packed.padding) == (3, 2)


def test_best_fit_prefers_the_fullest_window_that_has_room():
    packed = best_fit(np.array([6, 7, 2, 1]), 9)
    assert windows_of(packed) == [[(1, 0, 7), (2, 0, 2)], [(0, 0, 6), (3, 0, 1)]]


def test_best_fit_takes_pieces_of_equal_length_in_order():
    packed = best_fit(np.array([2, 2, 2, 2, 2]), 4)
    assert windows_of(packed) == [
        [(0, 0, 2), (1, 0, 2)],
        [(2, 0, 2), (3, 0, 2)],
        [(4, 0, 2)],
    ]


@both
@given(drawn=documents())
def test_every_token_is_packed_once_and_in_order(packing, drawn):
    lengths, window = drawn
    segments = sorted(
        s for segments in windows_of(pack(lengths, window, packing)) for s in segments
    )
    tokens = [(d, offset + i) for d, offset, length in segments for i in range(length)]
    assert tokens == [(d, i) for d, length in enumerate(lengths.tolist()) for i in range(length)]


@both
@given(drawn=documents())
def test_segments_stay_inside_windows_and_the_rest_is_padding(packing, drawn):
    lengths, window = drawn
    packed = pack(lengths, window, packing)
    rooms = [room_left(segments, window) for segments in windows_of(packed)]
    assert all(0 <= room < window for room in rooms)
    assert packed.padding == sum(rooms)
    assert packed.windows == len(rooms)
    assert all(1 <= length <= window for length in packed.length.tolist())


@both
@given(drawn=documents())
def test_first_delimits_windows_that_are_not_empty(packing, drawn):
    packed = pack(*drawn, packing)
    assert packed.first[0] == 0
    assert packed.first[-1] == len(packed.document) == len(packed.offset) == len(packed.length)
    assert all(begin < end for begin, end in pairwise(packed.first.tolist()))


@both
@given(drawn=documents(most=8))
def test_shapes_and_types(packing, drawn):
    lengths, window = drawn
    packed = pack(lengths, window, packing)
    assert packed.window == window
    assert packed.document.dtype == packed.offset.dtype == packed.first.dtype == np.int64
    assert packed.length.dtype == np.int32


@given(documents())
def test_concat_is_the_stream_cut_every_window(drawn):
    lengths, window = drawn
    assert windows_of(concat(lengths, window)) == concat_by_stream(lengths.tolist(), window)


@given(documents())
def test_concat_pads_the_last_window_only(drawn):
    lengths, window = drawn
    rooms = [room_left(segments, window) for segments in windows_of(concat(lengths, window))]
    assert rooms == [0] * (len(rooms) - 1) + [-int(lengths.sum()) % window][: len(rooms)]


@given(documents())
def test_best_fit_cuts_only_what_cannot_fit_and_only_at_the_window(drawn):
    lengths, window = drawn
    segments = Counter(best_fit(lengths, window).document.tolist())
    assert segments == {d: -(-n // window) for d, n in enumerate(lengths.tolist())}


def same_rooms(lengths: np.ndarray, window: int) -> bool:
    """Whether best_fit makes as many windows as piece by piece, with the same rooms left."""
    fast = windows_of(best_fit(lengths, window))
    slow = best_fit_by_piece(lengths.tolist(), window)
    return Counter(room_left(w, window) for w in fast) == Counter(
        room_left(w, window) for w in slow
    )


@given(documents(most=40))
def test_best_fit_leaves_the_rooms_that_piece_by_piece_leaves(drawn):
    assert same_rooms(*drawn)


@given(st.lists(st.integers(1, 6), max_size=120), st.integers(4, 14))
def test_best_fit_with_many_pieces_of_equal_length(lengths, window):
    assert same_rooms(np.array(lengths, dtype=np.int32), window)


@given(st.data(), st.sampled_from([255, 256, 257, 65_535, 65_536, 65_537, 200_000]))
def test_best_fit_with_wide_windows(data, window):
    lengths = data.draw(st.lists(st.integers(1, 2 * window), max_size=30))
    assert same_rooms(np.array(lengths, dtype=np.int32), window)


@both
@given(drawn=documents(), data=st.data())
def test_reorder_windows_moves_whole_windows(packing, drawn, data):
    packed = pack(*drawn, packing)
    order = data.draw(st.permutations(range(packed.windows)))
    moved = reorder_windows(packed, np.array(order, dtype=np.int64))
    before = windows_of(packed)
    assert windows_of(moved) == [before[w] for w in order]
    assert (moved.window, moved.padding) == (packed.window, packed.padding)
    assert moved.length.dtype == np.int32
    assert moved.document.dtype == moved.offset.dtype == moved.first.dtype == np.int64


@both
@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_no_documents(packing, kind):
    packed = pack(np.array([], dtype=kind), 8, packing)
    assert (packed.windows, packed.padding) == (0, 0)
    assert packed.first.tolist() == [0]
    moved = reorder_windows(packed, np.array([], dtype=np.int64))
    assert (moved.windows, moved.padding) == (0, 0)
    assert moved.first.dtype == np.int64


@both
def test_lengths_whose_sum_does_not_fit_into_int32(packing):
    lengths = np.full(3, 2**30, dtype=np.int32)
    packed = pack(lengths, 2**20, packing)
    assert packed.length.sum(dtype=np.int64) == 3 * 2**30
    assert (packed.windows, packed.padding) == (3 * 2**10, 0)
    assert packed.offset.max() == 2**30 - 2**20
