"""The windows that a trainer is tried with, and what is changed in them."""

from itertools import accumulate

import pytest
import torch
from handmade import PAD, Corpus, Document, write_shards, write_store
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.checks.windows import (
    SHORTEST,
    Tried,
    Window,
    batch_of,
    choose_windows,
    other_ids,
)
from exactcpt.training.models.loss import IGNORE

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=8)


def window(lengths: list[int], *, padded: bool = False) -> Window:
    """Tokens are numbered by their place; all but the first of each segment are targets."""
    ids = torch.arange(sum(lengths), dtype=torch.int32)
    is_target = torch.cat([torch.arange(n) > 0 for n in lengths])
    if padded:
        is_target[len(ids) - lengths[-1] :] = False
    return Window(
        ids=ids,
        labels=ids.long().masked_fill(~is_target, IGNORE),
        weights=is_target.float(),
        lengths=tuple(lengths),
        padded=padded,
    )


@given(LENGTHS, st.booleans())
def test_documents(lengths, padded):
    made = window(lengths, padded=padded)
    starts = [0, *accumulate(lengths)]
    expected = list(zip(range(len(lengths)), starts[:-1], lengths, strict=True))
    if padded:
        assert made.padding == range(starts[-2], starts[-1])
        expected.pop()
    else:
        assert len(made.padding) == 0
    assert [(d.number, d.start, d.length) for d in made.documents] == expected


@given(LENGTHS, st.data())
def test_a_document_comes_first(lengths, data):
    made = window(lengths)
    document = data.draw(st.sampled_from(made.documents))
    moved = made.with_first(document)
    runs = [made.ids[d.start : d.stop].tolist() for d in made.documents]
    order = [document.number, *(n for n in range(len(runs)) if n != document.number)]
    assert moved.ids.tolist() == [i for n in order for i in runs[n]]
    assert moved.lengths == tuple(lengths[n] for n in order)
    assert torch.equal(moved.labels != IGNORE, moved.weights > 0)
    is_first = {d.start for d in moved.documents}
    for place, label in enumerate(moved.labels.tolist()):
        assert label == (IGNORE if place in is_first else moved.ids[place])


@given(LENGTHS, st.data())
def test_only_some_targets_are_left(lengths, data):
    made = window(lengths)
    start = data.draw(st.integers(0, len(made.ids)))
    run = range(start, data.draw(st.integers(start, len(made.ids))))
    only = made.only({run: 3.0})
    for place in range(len(made.ids)):
        inside = place in run
        assert only.labels[place] == (made.ids[place] if inside else IGNORE)
        assert only.weights[place] == (3 if inside else 0)
    assert torch.equal(only.ids, made.ids)


@given(LENGTHS)
def test_a_batch(lengths):
    made = window(lengths)
    batch = batch_of([made, made])
    assert batch["cu_seqlens"].tolist() == [0, *accumulate(lengths * 2)]
    assert batch["position_ids"][1].tolist() == [i for n in lengths for i in range(n)]
    batch["input_ids"][0] = 0
    assert made.ids.tolist() == list(range(sum(lengths)))


def opened(folder, *lengths: int, **settings) -> ShardSet:
    packed = Corpus([("a", [Document(n) for n in lengths])], **settings)
    write_store(folder / "store", packed)
    write_shards(folder / "shards", packed, folder / "store")
    return open_set(folder / "shards")


def test_the_longest_pair_is_taken(tmp_path):
    """Windows of 64 tokens; the last 8 of a full one become padding."""
    tried = choose_windows(opened(tmp_path, 30, 34, 12, 52, 20, 20, 24, 64))
    assert tried.numbers == (0, 1)
    assert tried.window.lengths == (30, 26, 8)
    assert tried.window.padded
    assert (tried.a.number, tried.b.number) == (0, 1)
    assert tried.window.ids[-8:].tolist() == [PAD] * 8
    assert tried.window.labels[-8:].tolist() == [IGNORE] * 8
    assert not tried.window.weights[-8:].any()
    assert tried.second.lengths == (12, 52)


def test_padding_that_is_there_stays(tmp_path):
    tried = choose_windows(opened(tmp_path, 64, 30, 33))
    assert tried.numbers == (1, 0)
    assert tried.window.lengths == (30, 33, 1)


def test_a_segment_that_is_cut_away(tmp_path):
    tried = choose_windows(opened(tmp_path, 30, 28, 6, 64))
    assert tried.window.lengths == (30, 26, 8)


@pytest.mark.parametrize(("shorter", "enough"), [(SHORTEST, True), (SHORTEST - 1, False)])
def test_the_shortest_documents(tmp_path, shorter, enough):
    shards = opened(tmp_path, 40, shorter, 64 - 40 - shorter, 64, 64)
    # The third document is cut to what the padding leaves, and is shorter than the second one.
    if enough:
        assert choose_windows(shards).b.length == shorter
    else:
        with pytest.raises(UsageError, match="two documents that are long enough"):
            choose_windows(opened(tmp_path / "more", 55, shorter, 64, 64))


def test_every_token_becomes_another_one(tmp_path):
    tried = choose_windows(opened(tmp_path, 30, 34, 64))
    others = other_ids(tried)
    both = {*tried.window.ids.tolist(), *tried.second.ids.tolist()}
    assert others.keys() == both
    for before, after in others.items():
        assert after != before
        assert after in both - tried.special


def test_one_kind_of_token_is_not_enough(tmp_path):
    tried = choose_windows(opened(tmp_path, 30, 34, 64))
    ids = torch.full_like(tried.window.ids, 7)
    same = {
        "window": Window(**(vars(tried.window) | {"ids": ids})),
        "second": Window(**(vars(tried.second) | {"ids": ids})),
    }
    with pytest.raises(UsageError, match="a single kind of token"):
        other_ids(Tried(**(vars(tried) | same)))
