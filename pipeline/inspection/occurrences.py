"""The training documents of a token store in packed order, from the index sidecars alone.

The functions are those that the work units of a packing job call. A job works part by part and
writes its decisions to files; here the whole index is small enough for one pass in memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from ...schemas.shard import TRAIN
from ..core.selection import RANK_BINS, Quota, is_repeated, tokens_by_rank
from ..core.whatif import OrderedLengths
from ..files.storage import Folder
from ..pack.documents import Documents, PartRef, Ranked, part_documents, training_documents
from ..pack.plan import in_packed_order, make_groups, occurrences_of
from ..pack.selection_units import Measure, plain_quotas, quotas, targets
from ..pack.store_files import checked_index
from ..pack.task import PackTask
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex

__all__ = ["ReadIndex", "index_reader", "longest_document", "training_groups"]

ReadIndex = Callable[[PartRef], PartIndex]


@contextmanager
def index_reader(store: Folder, task: PackTask) -> Iterator[ReadIndex]:
    """Yields a function that reads a part's index; indices of a remote store are downloaded once.

    Raises:
        FormatError: an index is damaged, see `checked_index`.
    """
    with store.local_copies([part.index.path for part in task.parts]) as local:

        def read(part: PartRef) -> PartIndex:
            return checked_index(local[part.index.path], part, store)

        yield read


def longest_document(task: PackTask, read: ReadIndex) -> int:
    """Tokens of the longest stored document."""
    return max(int(read(part).lengths.max()) for part in task.parts)


def training_groups(task: PackTask, read: ReadIndex) -> Iterator[OrderedLengths]:
    """Yields the training documents of each group, in the order in which they are packed.

    Args:
        task: the settings and the parts; nothing is written to its output folder.
        read: reads an index.

    Yields:
        One group at a time; sources are numbered as in the task.

    Raises:
        ExactcptError: a source would be seen too often.
    """
    repeated = _repeated(task, read)
    quotas = _mixed_quotas(task, read, repeated) if task.mixes else plain_quotas(task)
    sources, settings = task.sources, task.settings

    def documents(part: PartRef) -> Documents:
        quota = quotas[part.source]
        return part_documents(part, read(part), quota, _of(part, repeated), settings)

    for group in make_groups(task.parts, quotas, task.group_tokens, settings.seed):
        found, _ = occurrences_of(group, documents, sources)
        ordered = in_packed_order(found[TRAIN], group, TRAIN, settings.seed)
        yield OrderedLengths(ordered.lengths, ordered.source, ordered.supervised)


def _repeated(task: PackTask, read: ReadIndex) -> NDArray[np.bool_]:
    """Whether an earlier document has the same content, shape [documents of the store]."""
    repeated = np.zeros(sum(part.documents for part in task.parts), bool)
    if not task.dedup:
        return repeated
    prefixes = np.concatenate([hash_prefixes(read(part).hashes) for part in task.parts])
    prefixes.sort()
    shared = np.unique(prefixes[1:][prefixes[1:] == prefixes[:-1]])
    del prefixes
    # Only hashes whose prefix occurs twice are compared whole. Most documents are not repeated, so
    # these are few, and sorting them is cheap.
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
    """The quota of each source; the two passes are those of a job's units."""

    def training(part: PartRef) -> Ranked:
        return training_documents(part, read(part), _of(part, repeated), task.settings)

    by_rank = {name: np.zeros(RANK_BINS, np.int64) for name in task.sources}
    for part in task.parts:
        found = training(part)
        by_rank[part.source] += tokens_by_rank(found.ranks, found.lengths)
    wanted = targets(task, {name: Measure(tokens) for name, tokens in by_rank.items()})
    candidates: dict[str, list[Ranked]] = {name: [] for name in task.sources}
    for part in task.parts:
        boundary = wanted[part.source].boundary
        if boundary is not None:
            candidates[part.source].append(training(part).in_bin(boundary[0]))
    return quotas(task, wanted, candidates)


def _of(part: PartRef, by_document: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A part's entries in an array of all documents of the store."""
    return by_document[part.first_document :][: part.documents]
