"""What a device makes of ids, codes and boundaries, against what each position has to be."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from handmade import window_codes
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import shard_set
from torch._dynamo.testing import CompileCounter

from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.models.loss import IGNORE
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.micro_batch import Batch
from exactcpt.training.windows.weighting import WEIGHTINGS, Weighting, make_weighting

L = 64
SEED = 7
TABLE = [0.5, 2.0, 3.0, 0.25]
CPU = torch.device("cpu")

Window = tuple[list[int], bool]
"""The lengths of its segments, and whether the last of them is padding."""


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> ShardSet:
    return open_set(
        shard_set(tmp_path_factory.mktemp("expansion") / "shards", alpha=0.4, gamma=0.9)
    )


def weighting_of(shards: ShardSet, name: Any) -> Weighting:
    return make_weighting(name, shards, seed=SEED, table=TABLE if name == "table" else None)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    cuts = draw(st.sets(st.integers(1, L - 1), max_size=12))
    edges = [0, *sorted(cuts), L]
    lengths = [b - a for a, b in pairwise(edges)]
    return lengths, draw(st.booleans())


def segments(window: Window) -> list[tuple[int, int, int]]:
    lengths, padded = window
    documents = [*range(len(lengths) - padded), *[-1] * padded]
    return [(document, 0, n) for document, n in zip(documents, lengths, strict=True)]


def batch_of(weighting: Weighting, chosen: list[Window]) -> Batch:
    """The windows have the numbers 0, 1, 2, ..."""
    codes = np.stack(
        [
            weighting.codes(np.array(window_codes(segments(window)), np.uint8), number)
            for number, window in enumerate(chosen)
        ]
    )
    ids = np.arange(len(chosen) * L, dtype=np.int32).reshape(-1, L) % 89
    lengths = [n for window in chosen for n in window[0]]
    real = [n for window in chosen for document, _, n in segments(window) if document != -1]
    return Batch(
        input_ids=torch.from_numpy(ids),
        codes=torch.from_numpy(codes),
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
        longest=max(lengths),
        windows=tuple(range(len(chosen))),
        digests=(0,) * len(chosen),
        tokens=sum(real),
        targets=sum(n - 1 for n in real),
        sum_w=weighting.total(codes, np.array(real, np.int32)),
        visible=0,
    )


# The oracle


def by_bucket(shards: ShardSet, name: str) -> list[np.float32]:
    """The weight of a target of each bucket, where nothing else counts."""
    rows = shards.buckets
    stored = [np.float32(row["weight"]) for row in rows]
    targets = [row["targets"] for row in rows]
    mean = sum(c * float(w) for c, w in zip(targets, stored, strict=True)) / sum(targets)
    return {
        "exact": stored,
        "document": stored,
        "near": stored,
        "uniform": [np.float32(1)] * len(rows),
        "matched": [np.float32(mean)] * len(rows),
        "tail_flat": [np.float32(1.4 if row["in_tail"] else 1) for row in rows],
        "table": [np.float32(w) for w in TABLE],
    }[name]


def drawn(shards: ShardSet, number: int) -> list[np.float32]:
    """The weights that `shuffled` draws for all positions of a window."""
    key = np.array([SEED, number], np.uint64)
    raw = [int(each) for each in np.random.Philox(key=key).random_raw(L // 2)]
    halves = [half for draw in raw for half in (draw & 0xFFFFFFFF, draw >> 32)]
    rows = [row for row in shards.buckets if row["targets"]]
    total, found = sum(row["targets"] for row in rows), []
    for half in halves:
        below, chosen = 0, rows[-1]
        for row in rows:
            below += row["targets"]
            if half < ((below << 32) + total // 2) // total:
                chosen = row
                break
        found.append(np.float32(chosen["weight"]))
    return found


def slow_weights(shards: ShardSet, name: str, window: Window, number: int) -> list[np.float32]:
    """Position by position, each rounded as it is computed."""
    if name == "shuffled":
        codes = window_codes(segments(window))
        both = zip(codes, drawn(shards, number), strict=True)
        return [weight if code else np.float32(0) for code, weight in both]
    weights, rows = by_bucket(shards, name), shards.buckets
    found: list[np.float32] = []
    for segment in segments(window):
        codes = window_codes([segment])
        own = [weights[code - 1] for code in codes if code]
        near = [w for w, code in zip(own, codes[1:], strict=False) if not rows[code - 1]["in_tail"]]
        extra = 0.0
        for w, code in zip(own, codes[1:], strict=False):
            extra += float(w) - 1 if rows[code - 1]["in_tail"] else 0.0
        for code in codes:
            if not code:
                weight = np.float32(0)
            elif name == "document":
                weight = np.float32(sum(map(float, own)) / len(own))
            elif name != "near":
                weight = weights[code - 1]
            elif rows[code - 1]["in_tail"]:
                weight = np.float32(1)
            else:
                weight = weights[code - 1] + np.float32(extra / len(near))
            found.append(weight)
    return found


@pytest.mark.parametrize("name", WEIGHTINGS)
@settings(max_examples=30)
@given(chosen=st.lists(windows(), min_size=1, max_size=3))
def test_every_tensor_is_what_each_position_has_to_be(shards, name, chosen):
    weighting = weighting_of(shards, name)
    batch = batch_of(weighting, chosen)
    found = Expander(weighting, CPU)(batch)
    codes = [window_codes(segments(window)) for window in chosen]
    weights = [slow_weights(shards, name, window, n) for n, window in enumerate(chosen)]
    ids = batch.input_ids.tolist()
    labels = [
        [i if code else IGNORE for i, code in zip(*row, strict=True)]
        for row in zip(ids, codes, strict=True)
    ]
    assert found.input_ids is batch.input_ids
    assert found.cu_seqlens is batch.cu_seqlens
    assert found.labels.tolist() == labels
    assert found.position_ids.tolist() == [[p for n in ns for p in range(n)] for ns, _ in chosen]
    assert np.array_equal(found.loss_weights.numpy(), np.array(weights))
    assert (found.labels.dtype, found.position_ids.dtype, found.loss_weights.dtype) == (
        torch.int64, torch.int32, torch.float32
    )  # fmt: skip
    assert batch.targets == (found.labels != IGNORE).sum()


@pytest.mark.parametrize("name", WEIGHTINGS)
@settings(max_examples=30)
@given(chosen=st.lists(windows(), min_size=1, max_size=3))
def test_the_sum_of_weights_is_exact(shards, name, chosen):
    """So it is the same bit for bit as any sum over the weights in float64."""
    weighting = weighting_of(shards, name)
    batch = batch_of(weighting, chosen)
    weights = Expander(weighting, CPU)(batch).loss_weights
    assert batch.sum_w == math.fsum(weights.flatten().tolist())
    assert batch.sum_w == weights.numpy().sum(dtype=np.float64)


@given(
    table=st.lists(st.floats(2**-10, 2**12, width=32), min_size=4, max_size=4),
    chosen=st.lists(windows(), min_size=1, max_size=2),
)
def test_the_sum_of_the_weights_of_any_table_is_exact(shards, table, chosen):
    """128 targets, times 2^22 between the largest and the smallest weight: 2^29."""
    weighting = make_weighting("table", shards, table=table)
    batch = batch_of(weighting, chosen)
    weights = Expander(weighting, CPU)(batch).loss_weights
    assert batch.sum_w == math.fsum(weights.flatten().tolist())


# Devices and graphs


MANY: list[list[Window]] = [[([L // n] * n, n == 2)] for n in (1, 2, 4, 8, 16, 32)]


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_no_value_is_looked_at(shards, name):
    """A device without values says so: to look at one on a GPU is to wait for it."""
    weighting, nowhere = weighting_of(shards, name), torch.device("meta")
    batch = batch_of(weighting, [([20, 44], True), ([64], False)])
    found = Expander(weighting, nowhere)(batch.to(nowhere))
    for ours, theirs in zip(Expander(weighting, CPU)(batch), found, strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_one_graph_does_for_any_number_of_segments(shards, name):
    weighting, counter = weighting_of(shards, name), CompileCounter()
    expander = Expander(weighting, CPU)
    compiled: Any = torch.compile(expander.__call__, fullgraph=True, backend=counter)
    for chosen in MANY:
        batch = batch_of(weighting, chosen)
        torch._dynamo.maybe_mark_dynamic(batch.cu_seqlens, 0)
        for ours, theirs in zip(expander(batch), compiled(batch), strict=True):
            assert torch.equal(ours, theirs)
    assert counter.frame_count <= 2  # one segment, and any other number of them
    torch.compiler.reset()
