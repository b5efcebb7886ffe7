"""A mix of shard sets: the training windows of several, each with its share, as if they were one.

Window number c of set k is number offset_k + c of the mix. With D the common denominator of the
shares, the places of a run are divided into blocks of D. In each block share_k D places are of set
k, in an order that is drawn for the block, and set k gives its windows in the order that it has
alone:

    window(p) = offset_k + window_k(number of places before p that are of set k)

So the counts are exact after every D windows and never off by more than D, and the number of
windows taken is all that a run needs to be continued.
"""

import bisect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from math import lcm
from typing import Any, cast

import numpy as np
import xxhash
from numpy.typing import NDArray

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.shard_set import ShardSet
from ...schemas.shard_windows import ShardWindows
from .order import permuted, windows_at
from .tokenizer_file import encoded_probe, read_tokenizer

__all__ = ["Mix", "MixedWindows", "check_fits", "check_weights_agree", "mixed_set"]

OF_BLOCKS = 1
"""Tells the draws for blocks from those for the epochs of a set."""

TARGETS = 1 << 40
"""About how many targets the histogram of a mix has."""


@dataclass(frozen=True, kw_only=True)
class Mix:
    """The order of the windows of a mix: a pure function of the number of windows before.

    Attributes:
        shares: of each set; their sum is 1.
        sizes: number of training windows of each set.
        seed: of the order.
    """

    shares: tuple[Fraction, ...]
    sizes: tuple[int, ...]
    seed: int

    @cached_property
    def block(self) -> int:
        """D, the number of places of a block."""
        return lcm(*(share.denominator for share in self.shares))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """The number of the first window of each set in the mix, and the number of all windows."""
        return (0, *np.cumsum(self.sizes, dtype=np.int64).tolist())

    def windows_at(self, positions: NDArray[np.integer]) -> NDArray[np.int64]:
        """The windows at some places of a run, shape [count].

        Args:
            positions: the number of windows before each, shape [count].
        """
        blocks, within = np.divmod(np.asarray(positions), self.block)
        found = np.empty(len(within), np.int64)
        for number in np.unique(blocks).tolist():
            here = np.flatnonzero(blocks == number)
            sets, before = _places(self.shares, self.seed, number)
            for which, share in enumerate(self.shares):
                own = here[sets[within[here]] == which]
                counts = number * int(share * self.block) + before[within[own]]
                windows = windows_at(counts, self.sizes[which], self.seed)
                found[own] = self.offsets[which] + windows
        return found

    def counts(self, windows: Iterable[int]) -> list[int]:
        """How many of some windows are of each set."""
        found = [0] * len(self.sizes)
        for window in windows:
            found[bisect.bisect_right(self.offsets, window) - 1] += 1
        return found


@lru_cache(maxsize=8)
def _places(
    shares: tuple[Fraction, ...], seed: int, number: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The set of each place of a block, and how many places of that set the block has before it."""
    size = lcm(*(share.denominator for share in shares))
    key = np.random.SeedSequence(seed, spawn_key=(0, OF_BLOCKS)).generate_state(1, np.uint64)[0]
    drawn = permuted(np.arange(size), size, int(key), number)
    sets = np.repeat(np.arange(len(shares)), [int(share * size) for share in shares])[drawn]
    before = np.empty(size, np.int64)
    for which in range(len(shares)):
        own = np.flatnonzero(sets == which)
        before[own] = np.arange(len(own))
    return sets, before


class MixedWindows:
    """The training windows of several sets, by their numbers in the mix.

    Args:
        sets: the sets, in their order.
    """

    def __init__(self, sets: Sequence[ShardSet]) -> None:
        self._sets = [ShardWindows(each, shard.TRAIN) for each in sets]
        self._first = [0, *np.cumsum([len(each) for each in self._sets]).tolist()]

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, index: int) -> Any:
        """The window of a number, from 0 on."""
        which = self._set_of(index)
        return self._sets[which][index - self._first[which]]

    def where(self, index: int) -> str:
        """The set and the shard of a window and its place there, for errors."""
        which = self._set_of(index)
        windows = self._sets[which]
        return str(windows.shards.root / windows.where(index - self._first[which]))

    def _set_of(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        return bisect.bisect_right(self._first, index) - 1


def check_fits(sets: Sequence[ShardSet]) -> None:
    """Checks that windows of the sets can stand in one batch.

    Raises:
        UsageError: their windows have other lengths, or their tokens are of another tokenizer.
        FormatError: a tokenizer cannot be read.
    """
    first, *others = sets
    for other in others:
        both = f"{first.root}, {other.root}"
        if other.window != first.window:
            raise UsageError(
                f"the sets of a mix have windows of {first.window:,} and {other.window:,} tokens",
                where=both,
                expected="one length",
                fix="pack both with the same --window",
            )
        if _vocabulary(other) != _vocabulary(first):
            raise UsageError(
                "the sets of a mix have different tokenizers",
                where=both,
                expected="one vocabulary, and ids that mean the same",
                fix="prepare both with the same --tokenizer",
            )


def _vocabulary(shards: ShardSet) -> tuple[Any, ...]:
    tokenizer = read_tokenizer(shards.tokenizer)
    special = shards.manifest["tokenizer"]
    named = [special["bos_id"], special["eos_id"]]
    return tokenizer.get_vocab(True), encoded_probe(tokenizer), named


def check_weights_agree(sets: Sequence[ShardSet]) -> None:
    """Checks that the sets have one weight for each bucket.

    Raises:
        UsageError: they differ.
    """
    first, *others = sets
    for other in others:
        ours, theirs = (each.dictionary(shard.TRAIN) for each in (first, other))
        alphas = [each.manifest["weights"]["alpha"] for each in (first, other)]
        if ours.tolist() != theirs.tolist() or alphas[0] != alphas[1]:
            raise UsageError(
                "the sets of a mix have different weights",
                where=f"{first.root}, {other.root}",
                expected="one weight for each bucket, or --weighting uniform",
                fix="give both the same ones: `exactcpt reweigh SET --table-only --out FILE`, then "
                "--weighting table --weight-table FILE",
            )


def mixed_set(sets: Sequence[ShardSet], shares: Sequence[Fraction]) -> ShardSet:
    """The first set with what a mix has of its own: the histogram, the tail, the fingerprint.

    The histogram is that of the windows as they are seen: each set's targets for each of its
    windows, times its share. A bucket is in the tail if it is in that of some set. The mix has
    supervised spans if some set has them.

    Args:
        sets: with windows of one length.
        shares: of each; their sum is 1.
    """
    rates = [
        float(share) / len(ShardWindows(each, shard.TRAIN)) * each.histogram(shard.TRAIN)
        for each, share in zip(sets, shares, strict=True)
    ]
    seen = np.sum(rates, axis=0)
    histogram = np.rint(seen / seen.sum() * TARGETS).astype(np.int64).tolist()
    first = sets[0].manifest
    in_tail = np.any([[row["in_tail"] for row in each.buckets] for each in sets], axis=0).tolist()
    table = [
        {**row, "targets": count, "in_tail": tail}
        for row, count, tail in zip(sets[0].buckets, histogram, in_tail, strict=True)
    ]
    manifest = {
        **first,
        "format_version": max(each.manifest["format_version"] for each in sets),
        "splits": first["splits"]
        | {shard.TRAIN: first["splits"][shard.TRAIN] | {"histogram": histogram}},
        "weights": first["weights"] | {"table": table},
    }
    named = [[each.fingerprint, str(share)] for each, share in zip(sets, shares, strict=True)]
    return replace(
        sets[0],
        manifest=cast("Mapping[str, Any]", manifest),  # pyright: ignore[reportArgumentType]
        fingerprint=xxhash.xxh3_128_hexdigest(json.dumps(named).encode()),
    )
