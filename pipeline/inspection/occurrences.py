"""What training sees of a token store, and in which order: from the index sidecars alone.

The same decisions that the units of a packing job make part by part and write down, with the same
functions. The index is small enough to be gone through at once, so here nothing is written.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as names
from ...schemas.errors import FormatError
from ...schemas.shard import TRAIN
from ..core.selection import RANK_BINS, Quota, is_repeated, is_validation, rank, tokens_by_rank
from ..core.whatif import OrderedLengths
from ..files.storage import Folder
from ..pack.plan import (
    Documents,
    PartRef,
    in_packed_order,
    make_groups,
    occurrences_of,
    part_documents,
)
from ..pack.selection_units import Measure, plain_quotas, quotas, targets
from ..pack.task import PackTask
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex, read_index

__all__ = ["ReadIndex", "index_reader", "longest_document", "training_groups"]

ReadIndex = Callable[[PartRef], PartIndex]


@contextmanager
def index_reader(store: Folder, task: PackTask) -> Iterator[ReadIndex]:
    """Reads the index of a part; those of a remote store are downloaded once.

    Raises:
        FormatError: an index is unreadable, or does not have the documents and tokens of its part.
    """
    with store.local_copies([names.index_name(part.part) for part in task.parts]) as local:

        def read(part: PartRef) -> PartIndex:
            name = names.index_name(part.part)
            try:
                index = read_index(local[name])
            except (pa.ArrowException, ValueError, KeyError) as error:
                raise _damaged(store.url_of(name), f"it cannot be read: {error}") from None
            found = len(index.lengths), int(index.lengths.sum(dtype=np.int64))
            if found != (part.documents, part.tokens) or index.lengths.min() < 1:
                what = f"it lists {found[0]:,} documents with {found[1]:,} tokens"
                expected = f"{part.documents:,} documents with {part.tokens:,} tokens"
                raise _damaged(store.url_of(name), what, expected)
            return index

        yield read


def _damaged(where: str, what: str, expected: str | None = None) -> FormatError:
    return FormatError(
        f"an index of the token store is damaged: {what}",
        where=where,
        expected=expected,
        fix="write the store again with `exactcpt tokenize --overwrite`",
    )


def longest_document(task: PackTask, read: ReadIndex) -> int:
    """Tokens of the longest stored document."""
    return max(int(read(part).lengths.max()) for part in task.parts)


def training_groups(task: PackTask, read: ReadIndex) -> Iterator[OrderedLengths]:
    """The training documents of each group in the order in which they are packed.

    Args:
        task: what is selected, and how; nothing is written to its output folder.
        read: reads an index.

    Yields:
        A group at a time; `source` counts the task's sources.

    Raises:
        ExactcptError: a source would have to be seen too often.
    """
    repeated = _repeated(task, read)
    quotas = _mixed_quotas(task, read, repeated) if task.mixes else plain_quotas(task)
    sources, settings = task.sources, task.settings

    def documents(part: PartRef) -> Documents:
        mine = repeated[part.first_document :][: part.documents]
        return part_documents(part, read(part), quotas[part.source], mine, settings)

    for group in make_groups(task.parts, quotas, task.group_tokens, settings.seed):
        found, _ = occurrences_of(group, documents, sources)
        ordered = in_packed_order(found[TRAIN], group, TRAIN, settings.seed)
        yield OrderedLengths(ordered.lengths, ordered.source)


def _repeated(task: PackTask, read: ReadIndex) -> NDArray[np.bool_]:
    """Which documents of the store have the content of an earlier one, shape [documents]."""
    repeated = np.zeros(sum(part.documents for part in task.parts), bool)
    if not task.dedup:
        return repeated
    prefixes = np.concatenate([hash_prefixes(read(part).hashes) for part in task.parts])
    prefixes.sort()
    shared = np.unique(prefixes[1:][prefixes[1:] == prefixes[:-1]])
    del prefixes
    # Hashes are compared whole, but only where another one begins like it: most documents are not
    # repeated, and to sort what is left of them costs little.
    hashes, numbers = [np.empty((0, 2), np.uint64)], [np.empty(0, np.int64)]
    for part in task.parts:
        mine = read(part).hashes
        rows = np.flatnonzero(_is_among(hash_prefixes(mine), shared))
        hashes.append(mine.view(np.uint64).reshape(-1, 2)[rows])
        numbers.append(part.first_document + rows)
    repeated[np.concatenate(numbers)[is_repeated(np.concatenate(hashes))]] = True
    return repeated


def _is_among(values: NDArray[np.uint64], rising: NDArray[np.uint64]) -> NDArray[np.bool_]:
    at = np.searchsorted(rising, values)
    return rising[np.minimum(at, len(rising) - 1)] == values if len(rising) else at < 0


def _mixed_quotas(
    task: PackTask, read: ReadIndex, repeated: NDArray[np.bool_]
) -> Mapping[str, Quota]:
    """How many copies each source's documents have."""

    def training(part: PartRef) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
        index = read(part)
        prefixes = hash_prefixes(index.hashes)
        numbers = part.first_document + np.arange(part.documents)
        settings = task.settings
        train = ~is_validation(prefixes, settings.validation_fraction, settings.seed)
        train &= ~repeated[numbers]
        return rank(prefixes[train], settings.seed), numbers[train], index.lengths[train]

    by_rank = {name: np.zeros(RANK_BINS, np.int64) for name in task.sources}
    for part in task.parts:
        ranks, _, lengths = training(part)
        by_rank[part.source] += tokens_by_rank(ranks, lengths)
    wanted = targets(None, task, {name: Measure(int(n.sum()), n) for name, n in by_rank.items()})
    candidates: dict[str, list[Any]] = {name: [] for name in task.sources}
    for part in task.parts:
        boundary = wanted[part.source].boundary
        if boundary is not None:
            ranks, numbers, lengths = training(part)
            mine = (ranks >> np.uint64(48)) == np.uint64(boundary[0])
            candidates[part.source].append((ranks[mine], numbers[mine], lengths[mine]))
    return quotas(None, task, wanted, candidates)
