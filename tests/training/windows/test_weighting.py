from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from handmade import edit_manifest, pack, window_codes
from hypothesis import given
from hypothesis import strategies as st
from tiny import corpus, shard_set

from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.config import TABLE_WEIGHTINGS
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.weighting import (
    UNDECIDED,
    WEIGHTINGS,
    Draws,
    Weighting,
    make_weighting,
)

SETTINGS = {"alpha": 0.4, "gamma": 0.9}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> ShardSet:
    return open_set(shard_set(tmp_path_factory.mktemp("weighting") / "shards", **SETTINGS))


def windows() -> list[list[tuple[int, int, int]]]:
    """Segments (document, offset, length) of the train windows, in the set's order."""
    return pack(corpus(**SETTINGS), "train")


def weights_of(shards: ShardSet, name, number: int, **options) -> list[float]:
    segments = windows()[number]
    codes = np.array(window_codes(segments), np.uint8)
    lengths = [length for _, _, length in segments]
    return filled(make_weighting(name, shards, **options), codes, lengths, number).tolist()


def filled(weighting: Weighting, codes, lengths: list[int], number: int):
    """The weights of the positions of a window."""
    drawn = torch.from_numpy(weighting.codes(codes, number))[None]
    batch = SimpleNamespace(
        input_ids=torch.zeros_like(drawn, dtype=torch.int32),
        codes=drawn,
        cu_seqlens=torch.tensor([0, *lengths]).cumsum(0).int(),
    )
    return Expander(weighting, torch.device("cpu"))(batch).loss_weights[0].numpy()


def stored(shards: ShardSet) -> list[float]:
    return [float(np.float32(row["weight"])) for row in shards.buckets]


def slow_weights(shards: ShardSet, name: str, number: int, table=None) -> list[float]:
    """Target by target, as the table of weightings says."""
    w = table or stored(shards)
    rows = shards.buckets
    mean = sum(r["targets"] * w[b] for b, r in enumerate(rows)) / sum(r["targets"] for r in rows)
    flat = [1.4 if row["in_tail"] else 1.0 for row in rows]
    found = []
    for document, _, length in windows()[number]:
        codes = window_codes([(document, 0, length)])
        own = [w[code - 1] for code in codes if code]
        far = [code for code in codes if code and rows[code - 1]["in_tail"]]
        extra = sum(w[code - 1] - 1 for code in far) / max(1, len(own) - len(far))
        for code in codes:
            weight = {
                "exact": w[code - 1],
                "uniform": 1.0,
                "matched": mean,
                "tail_flat": flat[code - 1],
                "document": sum(own) / max(1, len(own)),
                "near": 1.0 if code in far else w[code - 1] + extra,
            }[name]
            found.append(weight if code else 0.0)
    return found


@pytest.mark.parametrize("name", ["exact", "uniform", "matched", "tail_flat", "document", "near"])
def test_weights(shards, name):
    for number in range(len(windows())):
        expected = slow_weights(shards, name, number)
        assert weights_of(shards, name, number) == pytest.approx(expected, rel=1e-7)


def test_near_conserves_the_weight_of_every_segment(shards):
    for number, segments in enumerate(windows()):
        near, exact = (weights_of(shards, name, number) for name in ("near", "exact"))
        ends = np.cumsum([length for _, _, length in segments])
        for end, (_, _, length) in zip(ends, segments, strict=True):
            own = slice(end - length, end)
            assert sum(near[own]) == pytest.approx(sum(exact[own]), rel=1e-6)
    assert any(weights_of(shards, "near", n) != weights_of(shards, "exact", n) for n in range(3))


def test_near_without_near_targets(tmp_path):
    everywhere = open_set(shard_set(tmp_path / "shards", tau=0))
    with pytest.raises(UsageError, match="needs targets outside of the tail"):
        make_weighting("near", everywhere)


def test_near_refuses_weights_that_are_not_positive(tmp_path):
    folder = shard_set(tmp_path / "shards")

    def lower(manifest):
        for row in manifest["weights"]["table"]:
            row["weight"] = 0.01 if row["in_tail"] else 1.0

    edit_manifest(folder, lower)
    low = open_set(folder)
    with pytest.raises(UsageError, match="weights that are not positive"):
        make_weighting("near", low)


def test_the_windows_have_a_tail_and_padding(shards):
    flat = [segment for window in windows() for segment in window]
    assert any(document == -1 for document, _, _ in flat)
    assert len({*stored(shards)}) > 2


def test_a_table_of_ones_own(shards):
    table = [0.5, 2.0, 3.0, 0.25]
    found = weights_of(shards, "table", 1, table=table)
    assert found == [table[c - 1] if c else 0.0 for c in window_codes(windows()[1])]


@given(
    weights=st.lists(st.floats(1, 16, width=32), min_size=4, max_size=4),
    name=st.sampled_from(["table", "matched", "document", "near"]),
    number=st.integers(0, 5),
)
def test_a_table_in_the_place_of_the_weights(shards, weights, name, number):
    expected = slow_weights(shards, "exact" if name == "table" else name, number, weights)
    assert weights_of(shards, name, number, table=weights) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", TABLE_WEIGHTINGS)
def test_a_table_is_as_good_as_shards_with_its_weights(shards, tmp_path, name):
    """Bit for bit, so that a dose needs no shards of its own."""
    other = open_set(shard_set(tmp_path / "shards", alpha=1.5, gamma=0.3))
    table = [row["weight"] for row in other.buckets]
    own = "exact" if name == "table" else name
    for number in range(len(windows())):
        given = weights_of(shards, name, number, table=table, seed=7)
        assert given == weights_of(other, own, number, seed=7)
        assert given != weights_of(shards, own, number, seed=7) or len({*given}) == 1


def test_a_table_for_another_window(shards):
    with pytest.raises(UsageError, match="the weight table has 2 buckets"):
        make_weighting("table", shards, table=[1.0, 2.0])
    with pytest.raises(UsageError, match="the weighting `table` has no weights"):
        make_weighting("table", shards)


def test_without_extra_weight_all_is_uniform(tmp_path):
    plain = open_set(shard_set(tmp_path / "shards", alpha=0.0))
    for name in WEIGHTINGS[:-1]:
        assert weights_of(plain, name, 1) == weights_of(plain, "uniform", 1)


def test_shuffled_weights_are_of_a_window_and_a_seed(shards):
    one = weights_of(shards, "shuffled", 3, seed=1)
    assert one == weights_of(shards, "shuffled", 3, seed=1)
    assert one != weights_of(shards, "shuffled", 3, seed=2)
    assert [w > 0 for w in one] == [code > 0 for code in window_codes(windows()[3])]


def test_shuffled_weights_of_windows_differ(shards):
    weighting = make_weighting("shuffled", shards, seed=1)
    codes, lengths = np.ones(64, np.uint8), [64]
    drawn = [filled(weighting, codes, lengths, number) for number in range(2)]
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.parametrize("length", [100_001, 100_000])
def test_shuffled_weights_have_the_distribution_of_the_corpus(shards, length):
    """Chi-square over the draws of some windows, three degrees of freedom."""
    counts = {w: r["targets"] for w, r in zip(stored(shards), shards.buckets, strict=True)}
    total = sum(row["targets"] for row in shards.buckets)
    shares = {w: sum(
        r["targets"] for v, r in zip(stored(shards), shards.buckets, strict=True) if v == w
    ) / total for w in counts}  # fmt: skip
    weighting = make_weighting("shuffled", shards, seed=5)
    drawn = filled(weighting, np.ones(length, np.uint8), [length], 9)
    values, found = np.unique(drawn, return_counts=True)
    assert values.tolist() == sorted(shares)
    expected = length * np.array([shares[v] for v in values.tolist()])
    assert ((found - expected) ** 2 / expected).sum() < 16.3  # p = 0.001


def test_shuffled_draws_never_change(shards):
    weighting = make_weighting("shuffled", shards, seed=1)
    out = filled(weighting, np.ones(8, np.uint8), [8], 0)
    draws = np.random.Philox(key=np.array([1, 0], np.uint64)).random_raw(4).tolist()
    halves = [half for draw in draws for half in (draw & 0xFFFFFFFF, draw >> 32)]
    edges = np.cumsum(shards.histogram("train")) / shards.histogram("train").sum()
    expected = [stored(shards)[int((edges <= half / 2**32).sum())] for half in halves]
    assert out.tolist() == expected


def test_draws_beside_the_bounds(shards):
    """Searching for every draw gives the same weights as looking most of them up."""
    fast = make_weighting("shuffled", shards, seed=3).draws
    assert isinstance(fast, Draws)
    slow = replace(fast, by_prefix=np.full_like(fast.by_prefix, UNDECIDED))
    codes = np.ones(1 << 20, np.uint8)
    assert (fast.codes(codes, 0) == slow.codes(codes, 0)).all()
    assert (fast.by_prefix == UNDECIDED).sum() == len(fast.bounds)


def test_tail_flat_needs_alpha(tmp_path):
    opened = open_set(shard_set(tmp_path / "shards"))
    opened.manifest["weights"]["alpha"] = None
    with pytest.raises(UsageError, match="`tail_flat` needs alpha"):
        make_weighting("tail_flat", opened)
