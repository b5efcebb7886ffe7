"""The units of work of selection: repeated documents, and how often each source is seen.

    hash range ──> repeated documents                                        dedup
    part ──> measure ──> targets ──> candidates ──> quotas                   mixing

Measures and candidates are what the parts of a source contribute: tokens by rank, and the few
documents of the bin in which the source's token target is met. No document becomes an element.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..schemas import store as names
from .exact import Exact
from .ipc import read_table, write_batches
from .job import JOB
from .plan import PartRef, PlanSettings, repeats_in
from .selection import (
    RANK_BINS,
    Epochs,
    Mixing,
    Quota,
    boundary_bin,
    extra_tokens,
    is_repeated,
    is_validation,
    quota,
    rank,
    tokens_by_rank,
    wanted_copies,
)
from .storage import Folder
from .store import hash_prefixes, read_index

__all__ = [
    "HashRange",
    "Measure",
    "PackTask",
    "Target",
    "candidates",
    "find_repeated",
    "hash_ranges",
    "measure",
    "plain_quotas",
    "quotas",
    "repeated_documents",
    "targets",
]

DOCUMENTS_PER_HASH_RANGE = 1 << 23


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """What all units of a packing job have in common.

    Attributes:
        store, out: paths or URLs of the token store and the shard set.
        parts: of the store, in its order.
        settings: of the plan.
        exact: of the weights.
        mixing: what each source asks for.
        token_budget: tokens to train on, or None.
        dedup: whether repeated documents are dropped.
        shard_bytes: size of a shard.
        pad_id: the id of padding.
    """

    store: str
    out: str
    parts: tuple[PartRef, ...]
    settings: PlanSettings
    exact: Exact
    mixing: Mapping[str, Mixing]
    token_budget: int | None
    dedup: bool
    shard_bytes: int
    pad_id: int

    @property
    def sources(self) -> list[str]:
        """Names of the sources that have documents, in the order of the store."""
        return list(dict.fromkeys(part.source for part in self.parts))

    @property
    def mixes(self) -> bool:
        """Whether any source is to be seen other than once."""
        return self.token_budget is not None or any(
            mixing != Epochs(Fraction(1)) for mixing in self.mixing.values()
        )


@dataclass(frozen=True)
class HashRange:
    """Content hashes whose first 8 bytes are in start..stop - 1."""

    ordinal: int
    start: int
    stop: int


def hash_ranges(documents: int) -> list[HashRange]:
    """Equal ranges of hashes, with some eight million documents each; none without documents."""
    n = -(-documents // DOCUMENTS_PER_HASH_RANGE)
    edges = [(i << 64) // max(1, n) for i in range(n + 1)]
    return [HashRange(i, a, b) for i, (a, b) in enumerate(pairwise(edges))]


def find_repeated(hash_range: HashRange, task: PackTask) -> str:
    """Writes the indices of repeated documents with a hash in the range; returns the name."""
    out = Folder(task.out)
    name = f"{JOB}/repeated/{hash_range.ordinal:05d}.arrow"
    if out.exists(name):
        return name
    hashes: list[NDArray[np.void]] = []
    indices: list[NDArray[np.int64]] = []
    with Folder(task.store).local_copies([names.index_name(p.part) for p in task.parts]) as local:
        for part in task.parts:
            found = read_index(local[names.index_name(part.part)]).hashes
            prefixes = hash_prefixes(found)
            mine = (prefixes >= np.uint64(hash_range.start)) & (
                prefixes <= np.uint64(hash_range.stop - 1)
            )
            hashes.append(found[mine])
            indices.append(part.first_document + np.flatnonzero(mine))
    index = np.concatenate(indices)
    repeated = np.sort(index[is_repeated(np.concatenate(hashes), index)])
    batch = pa.record_batch([pa.array(repeated)], names=["doc_index"])
    write_batches(out, name, batch.schema, [batch])
    return name


def repeated_documents(task: PackTask, files: Iterable[str]) -> NDArray[np.int64]:
    """The indices in the store of all repeated documents, rising, from the files that list them."""
    found = [read_table(Folder(task.out), name)["doc_index"].to_numpy() for name in files]
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


@dataclass(frozen=True)
class Measure:
    """Training tokens of some of a source's documents, in all and by rank."""

    tokens: int
    by_rank: NDArray[np.int64]

    @classmethod
    def total(cls, measures: Any) -> "Measure":
        """The sum of some measures."""
        tokens, by_rank = 0, np.zeros(RANK_BINS, np.int64)
        for measure in measures:
            tokens, by_rank = tokens + measure.tokens, by_rank + measure.by_rank
        return cls(tokens, by_rank)


@dataclass(frozen=True)
class Target:
    """How often a source is to be seen, and the bin of rank in which its token target is met."""

    copies: Fraction
    boundary: tuple[int, int] | None


def _train_documents(
    part: PartRef, task: PackTask, repeated: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Rank, index and length of a part's training documents that are not repeated."""
    with Folder(task.store).local_copies([names.index_name(part.part)]) as local:
        index = read_index(local[names.index_name(part.part)])
    prefixes = hash_prefixes(index.hashes)
    numbers = part.first_document + np.arange(part.documents)
    settings = task.settings
    train = ~is_validation(prefixes, settings.validation_fraction, settings.seed)
    train &= ~repeats_in(part, repeated)
    return rank(prefixes[train], settings.seed), numbers[train], index.lengths[train]


def measure(part: PartRef, task: PackTask, repeated_files: Iterable[str]) -> tuple[str, Measure]:
    """The training tokens of a part, by its source."""
    ranks, _, lengths = _train_documents(part, task, repeated_documents(task, repeated_files))
    by_rank = tokens_by_rank(ranks, lengths)
    return part.source, Measure(int(by_rank.sum()), by_rank)


def targets(_: None, task: PackTask, measures: Mapping[str, Measure]) -> dict[str, Target]:
    """What each source is to contribute."""
    tokens = {name: measures[name].tokens for name in task.sources}
    wanted = wanted_copies(tokens, task.mixing, task.token_budget)
    return {
        name: Target(
            wanted[name],
            boundary_bin(measures[name].by_rank, extra_tokens(wanted[name], tokens[name])),
        )
        for name in task.sources
    }


def candidates(
    part: PartRef, task: PackTask, repeated_files: Iterable[str], wanted: Mapping[str, Target]
) -> list[tuple[str, Any]]:
    """The part's documents in the bin in which its source's token target is met."""
    boundary = wanted[part.source].boundary
    if boundary is None:
        return []
    ranks, numbers, lengths = _train_documents(part, task, repeated_documents(task, repeated_files))
    mine = (ranks >> np.uint64(48)) == np.uint64(boundary[0])
    return [(part.source, (ranks[mine], numbers[mine], lengths[mine]))]


def quotas(
    _: None, task: PackTask, wanted: Mapping[str, Target], found: Mapping[str, Any]
) -> dict[str, Quota]:
    """The quota of each source, from the candidates of all its parts."""
    result: dict[str, Quota] = {}
    for name in task.sources:
        target = wanted[name]
        if target.boundary is None:
            result[name] = Quota(target.copies)
        else:
            ranks, numbers, lengths = (np.concatenate(c) for c in zip(*found[name], strict=True))
            result[name] = quota(target.copies, target.boundary[1], ranks, numbers, lengths)
    return result


def plain_quotas(task: PackTask) -> dict[str, Quota]:
    """Every source once: what there is to say where nothing is mixed."""
    return {name: Quota(Fraction(1)) for name in task.sources}
