"""Selection: which documents are trained on, which validate, and how often each is seen.

Everything follows from content hashes, document lengths and a seed, so it is the same whatever the
order in which parts are looked at.

    duplicates    of equal content hashes, the first in the store stays
    split         a document validates if its hash, hashed again with the seed, is below
                  fraction * 2^64: equal content is always on one side
    copies        a source's training documents have floor(copies) copies each, and those of lowest
                  rank one more, until the token target is met, exact to one document
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from .shuffle import Purpose, mix

__all__ = [
    "MOST_COPIES",
    "RANK_BINS",
    "Epochs",
    "Mixing",
    "Quota",
    "Share",
    "copies",
    "extra_tokens",
    "is_repeated",
    "is_validation",
    "quota",
    "rank",
    "rank_bin",
    "tokens_by_rank",
    "wanted_copies",
]

MOST_COPIES = 1000
"""How often a source may be seen."""
RANK_BINS = 1 << 16
"""Bins of the histogram of tokens over ranks."""


@dataclass(frozen=True)
class Epochs:
    """A source is seen this often; 0.5 is half of its tokens."""

    epochs: Fraction


@dataclass(frozen=True)
class Share:
    """A source is this part of the token budget."""

    share: Fraction


Mixing = Epochs | Share


@dataclass(frozen=True)
class Quota:
    """How many copies the training documents of a source have.

    Attributes:
        copies: what was asked for, as a mean over tokens.
        last: the last document in order of (rank, index) that has one copy more than
            floor(copies), or None if none has.
    """

    copies: Fraction
    last: tuple[int, int] | None = None


def is_repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Documents whose content an earlier one has.

    Args:
        hashes: content hashes in two words each, in the order of the store; shape [n, 2].
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: the first in the store comes first
    ordered = hashes[order]
    repeated = np.zeros(len(hashes), bool)
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return repeated


def is_validation(hashes: NDArray[np.uint64], fraction: Fraction, seed: int) -> NDArray[np.bool_]:
    """Which documents validate. Hashes are the first 8 bytes of content hashes, shape [n]."""
    limit = int(fraction * (1 << 64))
    if limit == 0:
        return np.zeros(len(hashes), bool)
    return mix(hashes, seed, Purpose.SPLIT) <= np.uint64(limit - 1)


def rank(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """The seeded order in which documents get an additional copy, shape [n]."""
    return mix(hashes, seed, Purpose.MIXING)


def rank_bin(ranks: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The bin of each rank, 0 to RANK_BINS - 1, shape [n]."""
    return (ranks >> np.uint64(48)).astype(np.int64)


def tokens_by_rank(ranks: NDArray[np.uint64], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Tokens per bin of ranks, shape [RANK_BINS]; such histograms add up over parts."""
    bins = rank_bin(ranks)
    order = np.argsort(bins, kind="stable")
    total = np.concatenate(([0], np.cumsum(np.asarray(lengths, np.int64)[order])))
    edges = np.searchsorted(bins[order], np.arange(RANK_BINS + 1))
    return np.diff(total[edges])


def wanted_copies(
    tokens: Mapping[str, int], mixing: Mapping[str, Mixing], token_budget: int | None
) -> dict[str, Fraction]:
    """How often each source is to be seen, as a mean over its tokens.

    Without a budget it is the sources' `epochs`. With one, a `share` is a part of it, and what the
    shares leave goes to the other sources, in proportion to epochs times tokens.

    Args:
        tokens: training tokens of each source.
        mixing: what each source asks for; 1 epoch where it is not named.
        token_budget: tokens to train on, or None.

    Returns:
        For each source. A source without tokens cannot have its share; nobody else gets it.
    """
    epochs: dict[str, Fraction] = {}
    wanted: dict[str, Fraction] = {}
    for name, available in tokens.items():
        asked = mixing.get(name, Epochs(Fraction(1)))
        if isinstance(asked, Epochs):
            epochs[name] = asked.epochs
        elif token_budget is None:
            raise ValueError(f"source {name!r} has a share, but there is no token budget")
        else:
            budget = asked.share * token_budget
            wanted[name] = Fraction(budget, available) if available else Fraction(0)
    if token_budget is not None:
        shared = sum(m.share for m in mixing.values() if isinstance(m, Share))
        weight = sum(epochs[name] * tokens[name] for name in epochs)
        scale = Fraction((1 - shared) * token_budget, weight) if weight else Fraction(0)
        epochs = {name: e * scale for name, e in epochs.items()}
    return {name: (wanted | epochs)[name] for name in tokens}


def extra_tokens(copies: Fraction, tokens: int) -> int:
    """The token target of the fractional copy: how many of a source's tokens get one more copy."""
    return int((copies - copies.__floor__()) * tokens)


def boundary_bin(histogram: NDArray[np.int64], target: int) -> tuple[int, int] | None:
    """The bin of rank in which a token target is met, and what of it remains at the bin's start."""
    if target <= 0:
        return None
    reached = np.cumsum(histogram)
    at = int(np.searchsorted(reached, target))
    return at, target - int(reached[at] - histogram[at])


def quota(
    copies: Fraction,
    remaining: int,
    ranks: NDArray[np.uint64],
    indices: NDArray[np.int64],
    lengths: NDArray[np.integer],
) -> Quota:
    """The quota of a source, from the documents of the bin in which its target is met.

    Args:
        copies: how often the source is to be seen.
        remaining: what remains of the token target before this bin, at least 1.
        ranks, indices, lengths: of the bin's documents, shape [n].
    """
    order = np.lexsort((indices, ranks))
    reached = np.cumsum(np.asarray(lengths, np.int64)[order])
    last = order[int(np.searchsorted(reached, remaining))]
    return Quota(copies, (int(ranks[last]), int(indices[last])))


def copies(
    ranks: NDArray[np.uint64], indices: NDArray[np.int64], quota: Quota
) -> NDArray[np.int32]:
    """How many copies each training document of a source has, shape [n]."""
    count = np.full(len(ranks), quota.copies.__floor__(), np.int32)
    if quota.last is not None:
        last_rank, last_index = np.uint64(quota.last[0]), quota.last[1]
        count += (ranks < last_rank) | ((ranks == last_rank) & (indices <= last_index))
    return count
