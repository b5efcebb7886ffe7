"""The work units that find repeated documents: those whose content an earlier document has.

    run of parts ──> hashes by range ──> repeated by run ──> repeated of a run

Every document's hash is written once, into the file of its part run and hash range. A range reads
its own files, and writes what it finds into the file of its part run. So no unit reads more than it
needs, and no document becomes an element.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.runs import runs
from ..core.selection import is_repeated
from ..files.arrow import map_table, write_batches
from ..files.storage import Folder
from ..job.folder import JOB
from ..tokens.hashes import hash_prefixes
from .documents import PartRef
from .store_files import part_index
from .task import PackTask

__all__ = [
    "PartRun",
    "find_repeated",
    "hash_ranges",
    "merge_repeated",
    "part_runs",
    "repeated_in",
    "spread_hashes",
]

DOCUMENTS_PER_RUN = 1 << 23
"""About how many documents a run of parts or a range of hashes has."""


@dataclass(frozen=True)
class PartRun:
    """Consecutive parts of the store, numbered by their ordinal."""

    ordinal: int
    parts: tuple[PartRef, ...]

    @property
    def documents(self) -> int:
        """Documents in all its parts."""
        return sum(part.documents for part in self.parts)


def part_runs(parts: Sequence[PartRef]) -> list[PartRun]:
    """All parts, in runs of about eight million documents each."""
    found = runs(parts, lambda part: part.documents, DOCUMENTS_PER_RUN)
    return [PartRun(i, tuple(run)) for i, run in enumerate(found)]


def hash_ranges(parts: Sequence[PartRef]) -> int:
    """The number of equal ranges of hashes, so that each has about eight million documents."""
    return -(-sum(part.documents for part in parts) // DOCUMENTS_PER_RUN)


def _hashes_name(run: int, hash_range: int) -> str:
    return f"{JOB}/hashes/{run:05d}-{hash_range:05d}.arrow"


def _found_name(run: int, hash_range: int) -> str:
    return f"{JOB}/found/{run:05d}-{hash_range:05d}.arrow"


def spread_hashes(run: PartRun, task: PackTask) -> int:
    """Writes the hashes of a run's documents, one file per range; returns the run's ordinal."""
    out, store, n = Folder(task.out), Folder(task.store), hash_ranges(task.parts)
    if out.exists(_hashes_name(run.ordinal, n - 1)):  # it is written last
        return run.ordinal
    hashes = np.concatenate([part_index(part, store).hashes for part in run.parts])
    inner_edges = np.array([(i << 64) // n for i in range(1, n)], np.uint64)
    hash_range = np.searchsorted(inner_edges, hash_prefixes(hashes), side="right")
    order = np.argsort(hash_range.astype(np.uint16), kind="stable")
    begins = np.searchsorted(hash_range[order], np.arange(n + 1))
    for i in range(n):
        mine = order[begins[i] : begins[i + 1]]
        columns = [
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), len(mine), [None, pa.py_buffer(hashes[mine].tobytes())]
            ),
            pa.array(run.parts[0].first_document + mine),
        ]
        batch = pa.record_batch(columns, names=["content_hash", "doc_index"])
        write_batches(out, _hashes_name(run.ordinal, i), batch.schema, [batch])
    return run.ordinal


def find_repeated(hash_range: int, task: PackTask, part_run: Iterable[int]) -> int:
    """Writes the repeated documents of a hash range, one file per run; returns the range's number.

    Args:
        hash_range: number of the range.
        task: the job.
        part_run: ordinals of all runs; their hashes have been spread.
    """
    out, ordinals = Folder(task.out), sorted(part_run)
    if out.exists(_found_name(ordinals[-1], hash_range)):  # it is written last
        return hash_range
    spread = [_hashes_name(run, hash_range) for run in ordinals]
    with out.local_copies(spread) as local:
        tables = [map_table(local[name]) for name in spread]
        hashes = np.concatenate([_hash_words(table["content_hash"]) for table in tables])
        index = [table["doc_index"].to_numpy() for table in tables]
    edges = np.cumsum([0, *(len(some) for some in index)])
    repeated = is_repeated(hashes)
    for i, run in enumerate(ordinals):
        _write_indices(
            out,
            _found_name(run, hash_range),
            index[i][repeated[edges[i] : edges[i + 1]]],
        )
    return hash_range


def _hash_words(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """Hashes as two words each, shape [n, 2]; they can be compared and sorted, no more."""
    (hashes,) = column.chunks
    words: Any = hashes.buffers()[1]
    return np.frombuffer(words, np.uint64, 2 * len(hashes)).reshape(-1, 2)


def _write_indices(out: Folder, name: str, indices: NDArray[np.int64]) -> None:
    batch = pa.record_batch([pa.array(indices)], names=["doc_index"])
    write_batches(out, name, batch.schema, [batch])


def merge_repeated(
    run: PartRun, task: PackTask, hash_range: Iterable[int]
) -> list[tuple[str, str]]:
    """Lists the repeated documents of a run in one file.

    Args:
        run: the run.
        task: the job.
        hash_range: numbers of all ranges; their repeated documents have been found.

    Returns:
        For each part of the run, its name and the file's.
    """
    out = Folder(task.out)
    name = f"{JOB}/repeated/{run.ordinal:05d}.arrow"
    if not out.exists(name):
        found = [_found_name(run.ordinal, i) for i in hash_range]
        with out.local_copies(found) as local:
            indices = [map_table(local[one])["doc_index"].to_numpy() for one in found]
            _write_indices(out, name, np.sort(np.concatenate(indices)))
    return [(part.part, name) for part in run.parts]


def repeated_in(part: PartRef, task: PackTask, files: Mapping[str, str]) -> NDArray[np.bool_]:
    """Whether an earlier document has the same content, shape [documents of the part].

    Args:
        part: the part.
        task: the job.
        files: for each part, the file that lists its repeated documents; a part that is left out
            has none.
    """
    found = np.zeros(part.documents, bool)
    if part.part in files:
        name, first = files[part.part], part.first_document
        with Folder(task.out).local_copies([name]) as local:
            (listed,) = map_table(local[name])["doc_index"].chunks
            rising = listed.to_numpy()
            begin, end = np.searchsorted(rising, [first, first + part.documents])
            found[rising[begin:end] - first] = True
    return found
