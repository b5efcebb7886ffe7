"""The units of work of selection: repeated documents, and how often each source is seen.

    run of parts ──> hashes by range ──> repeated by run ──> repeated of a run      dedup
    part ──> measure ──> targets ──> candidates ──> quotas                          mixing

Every document's hash is written once, into the file of its part run and hash range; a range reads
its own files, and writes what it finds into the file of its part run. So no unit reads what others
need. Measures and candidates are what the parts of a source contribute: tokens by rank, and the few
documents of the bin in which the source's token target is met. No document becomes an element.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as names
from ...schemas.errors import ExactcptError
from ..core.runs import runs
from ..core.selection import (
    MOST_COPIES,
    RANK_BINS,
    Quota,
    boundary_bin,
    extra_tokens,
    is_repeated,
    quota,
    tokens_by_rank,
    wanted_copies,
)
from ..files.arrow import map_table, write_batches
from ..files.storage import Folder
from ..job.folder import JOB
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex, read_index
from .plan import Documents, PartRef, Ranked, part_documents, training_documents
from .task import PackTask

__all__ = [
    "Measure",
    "PartRun",
    "Target",
    "candidates",
    "find_repeated",
    "hash_ranges",
    "measure",
    "merge_repeated",
    "part_runs",
    "plain_quotas",
    "quotas",
    "selected",
    "spread_hashes",
    "targets",
]

DOCUMENTS_PER_RUN = 1 << 23
"""About how many documents a run of parts has, and a range of hashes."""


@dataclass(frozen=True)
class PartRun:
    """Consecutive parts of the store."""

    ordinal: int
    parts: tuple[PartRef, ...]

    @property
    def documents(self) -> int:
        """Of all its parts."""
        return sum(part.documents for part in self.parts)


def part_runs(parts: Sequence[PartRef]) -> list[PartRun]:
    """All parts, in runs with some eight million documents each."""
    found = runs(parts, lambda part: part.documents, DOCUMENTS_PER_RUN)
    return [PartRun(i, tuple(run)) for i, run in enumerate(found)]


def hash_ranges(parts: Sequence[PartRef]) -> int:
    """Into how many ranges hashes are divided: equal ones, some eight million documents each."""
    return -(-sum(part.documents for part in parts) // DOCUMENTS_PER_RUN)


def _hashes_name(run: int, hash_range: int) -> str:
    return f"{JOB}/hashes/{run:05d}-{hash_range:05d}.arrow"


def _found_name(run: int, hash_range: int) -> str:
    return f"{JOB}/found/{run:05d}-{hash_range:05d}.arrow"


def spread_hashes(run: PartRun, task: PackTask) -> int:
    """Writes the content hashes of a run's documents, a file a hash range; returns its ordinal."""
    out, n = Folder(task.out), hash_ranges(task.parts)
    if out.exists(_hashes_name(run.ordinal, n - 1)):  # it is written last
        return run.ordinal
    hashes = np.concatenate([_index(part, task).hashes for part in run.parts])
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
    """Writes the repeated documents with hashes in the range, a file a run; returns its ordinal.

    Args:
        hash_range: which.
        task: the job.
        part_run: ordinals of all runs, whose hashes have been spread.
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


def _hash_words(column: Any) -> NDArray[np.uint64]:
    """Hashes as two words each; only their equality and some order mean something."""
    (hashes,) = column.chunks
    return np.frombuffer(hashes.buffers()[1], np.uint64, 2 * len(hashes)).reshape(-1, 2)


def _write_indices(out: Folder, name: str, indices: NDArray[np.int64]) -> None:
    batch = pa.record_batch([pa.array(indices)], names=["doc_index"])
    write_batches(out, name, batch.schema, [batch])


def merge_repeated(
    run: PartRun, task: PackTask, hash_range: Iterable[int]
) -> list[tuple[str, str]]:
    """Lists the repeated documents of a run in one file; for each of its parts, the file's name.

    Args:
        run: which.
        task: the job.
        hash_range: all ranges, whose repeated documents have been found.
    """
    out = Folder(task.out)
    name = f"{JOB}/repeated/{run.ordinal:05d}.arrow"
    if not out.exists(name):
        found = [_found_name(run.ordinal, i) for i in hash_range]
        with out.local_copies(found) as local:
            indices = [map_table(local[one])["doc_index"].to_numpy() for one in found]
            _write_indices(out, name, np.sort(np.concatenate(indices)))
    return [(part.part, name) for part in run.parts]


def _repeated(part: PartRef, task: PackTask, files: Mapping[str, str]) -> NDArray[np.bool_]:
    """Which documents of a part are listed as repeated in its file, if it has one."""
    found = np.zeros(part.documents, bool)
    if part.part in files:
        name, first = files[part.part], part.first_document
        with Folder(task.out).local_copies([name]) as local:
            (listed,) = map_table(local[name])["doc_index"].chunks
            rising = listed.to_numpy()
            begin, end = np.searchsorted(rising, [first, first + part.documents])
            found[rising[begin:end] - first] = True
    return found


def _index(part: PartRef, task: PackTask) -> PartIndex:
    name = names.index_name(part.part)
    with Folder(task.store).local_copies([name]) as local:
        return read_index(local[name])


def selected(part: PartRef, task: PackTask, repeated: Mapping[str, str], quota: Quota) -> Documents:
    """The documents of a part and what selection decided of each.

    Args:
        part: which.
        task: the job.
        repeated: for each part, the file that lists its repeated documents; none, none are.
        quota: of the part's source.
    """
    is_repeat = _repeated(part, task, repeated)
    return part_documents(part, _index(part, task), quota, is_repeat, task.settings)


@dataclass(frozen=True)
class Measure:
    """Training tokens of some of a source's documents, by the bins of their ranks."""

    by_rank: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """In all bins."""
        return int(self.by_rank.sum())

    @classmethod
    def total(cls, measures: Iterable["Measure"]) -> "Measure":
        """The sum of some measures."""
        by_rank = np.zeros(RANK_BINS, np.int64)
        for measure in measures:
            by_rank += measure.by_rank
        return cls(by_rank)


@dataclass(frozen=True)
class Target:
    """How often a source is to be seen, and the bin of rank in which its token target is met."""

    copies: Fraction
    boundary: tuple[int, int] | None


def _training(part: PartRef, task: PackTask, repeated: Mapping[str, str]) -> Ranked:
    is_repeat = _repeated(part, task, repeated)
    return training_documents(part, _index(part, task), is_repeat, task.settings)


def measure(part: PartRef, task: PackTask, repeated: Mapping[str, str]) -> tuple[str, Measure]:
    """The training tokens of a part, by its source; `repeated` is as in `selected`."""
    found = _training(part, task, repeated)
    return part.source, Measure(tokens_by_rank(found.ranks, found.lengths))


def targets(task: PackTask, measures: Mapping[str, Measure]) -> dict[str, Target]:
    """What each source is to contribute.

    Raises:
        ExactcptError: a source would have to be seen too often.
    """
    nothing = Measure.total([])
    found = {name: measures.get(name, nothing) for name in task.sources}
    tokens = {name: one.tokens for name, one in found.items()}
    wanted = wanted_copies(tokens, task.mixing, task.token_budget)
    for name, copies in wanted.items():
        if tokens[name] and copies > MOST_COPIES:
            raise ExactcptError(
                f"source {name!r} would be seen {ceil(copies):,} times",
                expected=f"at most {MOST_COPIES:,} times: it has {tokens[name]:,} training tokens",
                fix="lower --token-budget or the source's share or epochs, or give it more text",
            )
    return {
        name: Target(
            wanted[name],
            boundary_bin(found[name].by_rank, extra_tokens(wanted[name], tokens[name])),
        )
        for name in task.sources
    }


def candidates(
    part: PartRef, task: PackTask, repeated: Mapping[str, str], wanted: Mapping[str, Target]
) -> list[tuple[str, Ranked]]:
    """The part's documents in the bin in which its source's token target is met."""
    boundary = wanted[part.source].boundary
    if boundary is None:
        return []
    return [(part.source, _training(part, task, repeated).in_bin(boundary[0]))]


def quotas(
    task: PackTask, wanted: Mapping[str, Target], found: Mapping[str, Iterable[Ranked]]
) -> dict[str, Quota]:
    """The quota of each source, from the candidates of all its parts."""
    return {name: _quota(wanted[name], found.get(name, ())) for name in task.sources}


def _quota(target: Target, found: Iterable[Ranked]) -> Quota:
    if target.boundary is None:
        return Quota(target.copies)
    some = list(found)
    return quota(
        target.copies,
        target.boundary[1],
        np.concatenate([one.ranks for one in some]),
        np.concatenate([one.index for one in some]),
        np.concatenate([one.lengths for one in some]),
    )


def plain_quotas(task: PackTask) -> dict[str, Quota]:
    """Every source once, for jobs without mixing."""
    return {name: Quota(Fraction(1)) for name in task.sources}
