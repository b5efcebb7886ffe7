"""Selection: which documents are for training, which for validation, and how often each is seen.

Everything follows from content hashes, document lengths and a seed, so the order in which the parts
of a store are processed does not matter.

    duplicates    of documents with equal content hashes, the first in the store stays
    split         a document is for validation if its hash, hashed again with the seed, is below
                  fraction * 2^64; so equal content is always on one side
    copies        how many times a training document occurs in the windows (0: it is dropped). Each
                  has floor(copies) of its source; those of lowest rank have one more, until the
                  source's token target is met, exact to one document

The rank of a document is its hash, hashed with the seed once more. Ranks fall into bins, and one
histogram of tokens per bin tells in which bin a token target is met, so only that bin's documents
are ever sorted.
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
"""The largest number of times that a source may be seen."""
RANK_BINS = 1 << 16
"""Bins of ranks, by their first 16 bits."""


@dataclass(frozen=True)
class Epochs:
    """A source is seen this many times; 0.5 is half of its tokens once."""

    epochs: Fraction


@dataclass(frozen=True)
class Share:
    """A source is this fraction of the token budget."""

    share: Fraction


Mixing = Epochs | Share


@dataclass(frozen=True)
class Quota:
    """How many copies the training documents of a source have.

    Attributes:
        copies: the mean over the source's tokens.
        last: rank and index of the last document, in that order, that has one copy more than
            floor(copies); None if no document has.
    """

    copies: Fraction
    last: tuple[int, int] | None = None


def is_repeated(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Whether an earlier document has the same content, shape [n].

    Args:
        hashes: content hashes as two words each, in the order of the store; shape [n, 2].
    """
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: the first in the store comes first
    ordered = hashes[order]
    repeated = np.zeros(len(hashes), bool)
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    return repeated


def is_validation(hashes: NDArray[np.uint64], fraction: Fraction, seed: int) -> NDArray[np.bool_]:
    """Whether documents are for validation, shape [n].

    Args:
        hashes: the first 8 bytes of content hashes, shape [n].
        fraction: how many are for validation, 0 to 1.
        seed: of the split.
    """
    limit = int(fraction * (1 << 64))
    if limit == 0:
        return np.zeros(len(hashes), bool)
    return mix(hashes, seed, Purpose.SPLIT) <= np.uint64(limit - 1)


def rank(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """The ranks of documents, shape [n]; the lowest are the first to get an additional copy.

    Args:
        hashes: the first 8 bytes of content hashes, shape [n].
        seed: of the order.
    """
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
    """How many times each source is to be seen, as a mean over its tokens.

    Without a budget these are the sources' `epochs`. With one, each `share` is a fraction of it,
    and the rest goes to the other sources, in proportion to epochs times tokens.

    Args:
        tokens: training tokens of each source.
        mixing: the epochs or share of each source; 1 epoch for those that are left out.
        token_budget: tokens to train on, or None.

    Returns:
        One number per source. The share of a source without tokens is not given to others.

    Raises:
        ValueError: a source has a share, but there is no budget.
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
    """The token target of a source: how many of its tokens get one more copy."""
    return int((copies - copies.__floor__()) * tokens)


def boundary_bin(histogram: NDArray[np.int64], target: int) -> tuple[int, int] | None:
    """The bin in which a token target is met, and what remains of the target where the bin starts.

    Args:
        histogram: tokens per bin, as of `tokens_by_rank`.
        target: in tokens.

    Returns:
        None where the target is not positive.
    """
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
    """The quota of a source, from the documents of the bin in which its token target is met.

    Args:
        copies: how many times the source is to be seen.
        remaining: tokens of the target that remain where the bin starts, at least 1.
        ranks, indices, lengths: those of the bin's documents, in any order; shape [n].
    """
    order = np.lexsort((indices, ranks))
    reached = np.cumsum(np.asarray(lengths, np.int64)[order])
    last = order[int(np.searchsorted(reached, remaining))]
    return Quota(copies, (int(ranks[last]), int(indices[last])))


def copies(
    ranks: NDArray[np.uint64], indices: NDArray[np.int64], quota: Quota
) -> NDArray[np.int32]:
    """How many copies each training document of a source has, shape [n].

    Args:
        ranks, indices: those of the documents, shape [n].
        quota: the quota of their source.
    """
    count = np.full(len(ranks), quota.copies.__floor__(), np.int32)
    if quota.last is not None:
        last_rank, last_index = np.uint64(quota.last[0]), quota.last[1]
        count += (ranks < last_rank) | ((ranks == last_rank) & (indices <= last_index))
    return count
