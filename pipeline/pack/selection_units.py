"""The work units of selection: how often each source is seen, and so each document.

    run of parts ──> measure ──> targets ──> candidates ──> quotas      where sources are mixed

Measures and candidates are what runs of parts of a source contribute: tokens by rank, and the few
documents of the bin in which the source's token target is met. A measure has half a mebibyte, which
is too much for each of a hundred thousand parts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ...schemas.runs import runs
from ...schemas.sizes import plural
from ..core.selection import (
    MOST_COPIES,
    RANK_BINS,
    Quota,
    boundary_bin,
    extra_tokens,
    quota,
    tokens_by_rank,
    wanted_copies,
)
from ..files.storage import Folder
from .documents import Documents, PartRef, Ranked, part_documents, training_documents
from .repeated_units import repeated_in
from .store_files import checked_index, part_index
from .task import PackTask

__all__ = [
    "Measure",
    "Target",
    "candidates",
    "measure",
    "plain_quotas",
    "quotas",
    "selected",
    "source_runs",
    "targets",
]


Parts = tuple[PartRef, ...]
DOCUMENTS_PER_RUN = 1 << 22
"""About how many documents a run of parts has."""


def selected(part: PartRef, task: PackTask, repeated: Mapping[str, str], quota: Quota) -> Documents:
    """The documents of a part and what selection decided of each.

    Args:
        part: the part.
        task: the job.
        repeated: for each part, the file that lists its repeated documents; see `repeated_in`.
        quota: the quota of the part's source.
    """
    is_repeat = repeated_in(part, task, repeated)
    index = part_index(part, Folder(task.store))
    return part_documents(part, index, quota, is_repeat, task.settings)


@dataclass(frozen=True)
class Measure:
    """Training tokens of some documents of a source, by bins of rank; shape [RANK_BINS]."""

    by_rank: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Tokens in all bins."""
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
    """What a source is to contribute.

    Attributes:
        copies: how many times it is to be seen.
        boundary: the bin in which its token target is met, and what remains of the target where
            the bin starts; None if no document has an additional copy.
    """

    copies: Fraction
    boundary: tuple[int, int] | None


def source_runs(parts: Sequence[PartRef]) -> list[Parts]:
    """All parts, in runs of one source and about four million documents each."""
    by_source = (list(mine) for _, mine in groupby(parts, key=lambda part: part.source))
    return [
        tuple(run)
        for mine in by_source
        for run in runs(mine, lambda part: part.documents, DOCUMENTS_PER_RUN)
    ]


def _training(run: Parts, task: PackTask, repeated: Mapping[str, str]) -> Iterator[Ranked]:
    """The training documents of each part of a run."""
    store = Folder(task.store)
    with store.local_copies([part.index.path for part in run]) as local:
        for part in run:
            is_repeat = repeated_in(part, task, repeated)
            index = checked_index(local[part.index.path], part, store)
            yield training_documents(part, index, is_repeat, task.settings)


def measure(run: Parts, task: PackTask, repeated: Mapping[str, str]) -> tuple[str, Measure]:
    """The source of a run and its training tokens; `repeated` is as in `selected`."""
    by_rank = np.zeros(RANK_BINS, np.int64)
    for found in _training(run, task, repeated):
        by_rank += tokens_by_rank(found.ranks, found.lengths)
    return run[0].source, Measure(by_rank)


def targets(task: PackTask, measures: Mapping[str, Measure]) -> dict[str, Target]:
    """The target of each source.

    Raises:
        ExactcptError: a source would be seen too often.
    """
    nothing = Measure.total([])
    found = {name: measures.get(name, nothing) for name in task.sources}
    tokens = {name: one.tokens for name, one in found.items()}
    wanted = wanted_copies(tokens, task.mixing, task.token_budget)
    for name, copies in wanted.items():
        if tokens[name] and copies > MOST_COPIES:
            raise ExactcptError(
                f"source {name!r} would be seen {ceil(copies):,} times",
                expected=f"at most {MOST_COPIES:,} times: it has "
                + plural(tokens[name], "training token"),
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
    run: Parts, task: PackTask, repeated: Mapping[str, str], wanted: Mapping[str, Target]
) -> list[tuple[str, Ranked]]:
    """The source of a run, and its documents in the bin in which the source's target is met."""
    source = run[0].source
    boundary = wanted[source].boundary
    if boundary is None:
        return []
    found = [one.in_bin(boundary[0]) for one in _training(run, task, repeated)]
    return [(source, Ranked.joined(found))]


def quotas(
    task: PackTask, wanted: Mapping[str, Target], found: Mapping[str, Iterable[Ranked]]
) -> dict[str, Quota]:
    """The quota of each source, from the candidates of all its parts."""
    return {name: _quota(wanted[name], found.get(name, ())) for name in task.sources}


def _quota(target: Target, found: Iterable[Ranked]) -> Quota:
    if target.boundary is None:
        return Quota(target.copies)
    all_of_it = Ranked.joined(list(found))
    return quota(
        target.copies,
        target.boundary[1],
        all_of_it.ranks,
        all_of_it.index,
        all_of_it.lengths,
    )


def plain_quotas(task: PackTask) -> dict[str, Quota]:
    """Every source once, for jobs without mixing."""
    return {name: Quota(Fraction(1)) for name in task.sources}
