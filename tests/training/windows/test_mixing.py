"""The order of a mix of shard sets, and what its sets have to have in common."""

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import shard_set

from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.mixing import (
    Mix,
    MixedWindows,
    check_fits,
    check_weights_agree,
    mixed_set,
)
from exactcpt.training.windows.order import windows_at


def shares_of(parts: list[int]) -> tuple[Fraction, ...]:
    return tuple(Fraction(part, sum(parts)) for part in parts)


mixes = st.builds(
    lambda parts, sizes, seed: Mix(
        shares=shares_of(parts), sizes=tuple(sizes[: len(parts)]), seed=seed
    ),
    st.lists(st.integers(1, 9), min_size=2, max_size=4),
    st.lists(st.integers(20, 50), min_size=4, max_size=4),
    st.integers(0, (1 << 64) - 1),
)


def slow(mix: Mix, count: int) -> list[tuple[int, int]]:
    """Set and window of the first places: one counter for each set, one place after the other."""
    taken = [0] * len(mix.sizes)
    alone = [windows_at(np.arange(count), size, mix.seed).tolist() for size in mix.sizes]
    found: list[tuple[int, int]] = []
    for window in mix.windows_at(np.arange(count)).tolist():
        which = next(k for k, stop in enumerate(mix.offsets[1:]) if window < stop)
        found.append((which, window - mix.offsets[which]))
        assert found[-1][1] == alone[which][taken[which]]
        taken[which] += 1
    return found


@settings(max_examples=25)
@given(mix=mixes)
def test_every_set_gives_its_windows_in_the_order_that_it_has_alone(mix):
    slow(mix, 3 * mix.block)


@settings(max_examples=25)
@given(mix=mixes)
def test_every_block_has_the_shares_exactly(mix):
    sets = [which for which, _ in slow(mix, 3 * mix.block)]
    for first in range(0, len(sets), mix.block):
        counts = Counter(sets[first : first + mix.block])
        for which, share in enumerate(mix.shares):
            assert counts[which] == share * mix.block


@settings(max_examples=25)
@given(mix=mixes, first=st.integers(0, 5000), count=st.integers(1, 12))
def test_an_order_can_be_taken_up_anywhere(mix, first, count):
    """Whatever the batch and the blocks: a place says which window it has."""
    places = np.arange(first, first + count)
    one_by_one = [int(mix.windows_at(places[i : i + 1])[0]) for i in range(count)]
    assert mix.windows_at(places).tolist() == one_by_one


@settings(max_examples=25)
@given(mix=mixes)
def test_windows_are_counted_by_set(mix):
    windows = mix.windows_at(np.arange(2 * mix.block)).tolist()
    assert mix.counts(windows) == [2 * share * mix.block for share in mix.shares]


def test_seeds_and_blocks_have_orders_of_their_own():
    wide = [Mix(shares=(Fraction(7, 20), Fraction(13, 20)), sizes=(9, 9), seed=s) for s in (0, 1)]
    orders = [tuple(w >= 9 for w in m.windows_at(b * 20 + np.arange(20))) for m in wide
              for b in range(3)]  # fmt: skip
    assert len({*orders}) == 6


def test_the_order_never_changes():
    mix = Mix(shares=(Fraction(7, 10), Fraction(3, 10)), sizes=(5, 3), seed=0)
    assert mix.windows_at(np.arange(20)).tolist() == [
        2,
        0,
        7,
        1,
        4,
        3,
        0,
        5,
        2,
        6,
        1,
        4,
        7,
        3,
        4,
        1,
        3,
        6,
        5,
        2,
    ]


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixing")
    return [
        open_set(shard_set(folder / "one")),
        open_set(shard_set(folder / "two", times=2)),
    ]


def test_windows_of_a_mix_are_those_of_its_sets(sets):
    windows = MixedWindows(sets)
    alone = [ShardDataset(each) for each in sets]
    assert len(windows) == sum(map(len, alone))
    for number in range(len(windows)):
        which = int(number >= len(alone[0]))
        own = number - which * len(alone[0])
        ids = alone[which].batch([own]).input_ids[0].tolist()
        assert windows[number].ids.tolist() == ids
        assert windows.where(number) == str(sets[which].root / alone[which].where(own))
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_the_histogram_of_a_mix_is_that_of_its_windows_as_they_are_seen(sets):
    shares = (Fraction(1, 4), Fraction(3, 4))
    mixed = mixed_set(sets, shares)
    per_window = [each.histogram("train") / len(ShardDataset(each)) for each in sets]
    seen = sum(float(s) * each for s, each in zip(shares, per_window, strict=True))
    found = mixed.histogram("train")
    assert found / found.sum() == pytest.approx(seen / seen.sum(), abs=1e-9)
    assert sets[0].histogram("train").sum() < 1 << 20  # the set itself is as it was


def test_the_fingerprint_of_a_mix_is_of_its_sets_their_shares_and_their_order(sets):
    half, third = (Fraction(1, 2),) * 2, (Fraction(1, 3), Fraction(2, 3))
    found = {
        mixed_set(sets, half).fingerprint,
        mixed_set(sets, third).fingerprint,
        mixed_set(sets[::-1], half).fingerprint,
        *(each.fingerprint for each in sets),
    }
    assert len(found) == 5
    assert mixed_set(sets, half).fingerprint == mixed_set([*sets], half).fingerprint


def test_other_windows_are_refused(sets, tmp_path):
    other = open_set(shard_set(tmp_path / "other", window=128))
    with pytest.raises(UsageError, match="windows of 64 and 128 tokens"):
        check_fits([sets[0], other])


def test_another_tokenizer_is_refused(sets, tmp_path):
    import harness

    folder = shard_set(tmp_path / "other")
    harness.changed_tokenizer(folder, harness.rename_eos)
    with pytest.raises(UsageError, match="the sets of a mix have different tokenizers"):
        check_fits([sets[0], open_set(folder)])


def test_a_tail_is_the_tail_of_some_set(sets, tmp_path):
    shard_set(tmp_path / "short", tau=63)
    mixed = mixed_set([open_set(tmp_path / "short"), sets[0]], (Fraction(1, 2),) * 2)
    assert [row["in_tail"] for row in mixed.buckets] == [row["in_tail"] for row in sets[0].buckets]


def test_other_weights_are_refused(sets, tmp_path):
    check_weights_agree([sets[0], sets[0]])
    other = open_set(shard_set(tmp_path / "other", alpha=0.7))
    with pytest.raises(UsageError, match="the sets of a mix have different weights") as told:
        check_weights_agree([sets[0], other])
    assert told.value.fix is not None
    assert "--weight-table FILE" in told.value.fix
