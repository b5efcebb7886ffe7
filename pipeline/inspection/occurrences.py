"""The training documents of a token store in packed order, from the index sidecars alone.

The functions are those that the work units of a packing job call. A job works part by part and
writes its decisions to files; here the whole index is small enough for one pass in memory.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as store_format
from ...schemas.errors import FormatError
from ...schemas.shard import TRAIN
from ...schemas.sizes import plural
from ..core.selection import RANK_BINS, Quota, is_repeated, tokens_by_rank
from ..core.whatif import OrderedLengths
from ..files.storage import Folder
from ..pack.documents import Documents, PartRef, Ranked, part_documents, training_documents
from ..pack.plan import in_packed_order, make_groups, occurrences_of
from ..pack.selection_units import Measure, plain_quotas, quotas, targets
from ..pack.task import PackTask
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex, read_index

__all__ = ["ReadIndex", "index_reader", "longest_document", "training_groups"]

ReadIndex = Callable[[PartRef], PartIndex]


@contextmanager
def index_reader(store: Folder, task: PackTask) -> Iterator[ReadIndex]:
    """Yields a function that reads a part's index; indices of a remote store are downloaded once.

    Raises:
        FormatError: an index is unreadable, or does not have the documents and tokens of its part.
    """
    with store.local_copies([store_format.index_name(part.part) for part in task.parts]) as local:

        def read(part: PartRef) -> PartIndex:
            name = store_format.index_name(part.part)
            try:
                index = read_index(local[name])
            except (pa.ArrowException, ValueError, KeyError) as error:
                raise _damaged(store.url_of(name), f"it cannot be read: {error}") from None
            found = len(index.lengths), int(index.lengths.sum(dtype=np.int64))
            if found != (part.documents, part.tokens) or index.lengths.min() < 1:
                what = f"it lists {_counts(*found)}"
                raise _damaged(store.url_of(name), what, _counts(part.documents, part.tokens))
            return index

        yield read


def _counts(documents: int, tokens: int) -> str:
    return f"{plural(documents, 'document')} with {plural(tokens, 'token')}"


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
        yield OrderedLengths(ordered.lengths, ordered.source)


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
