"""The plan: which segments each window has, decided from the store's index alone.

    parts x copy numbers ── seeded order, up to group_tokens ──> groups
    group ── select, shuffle, pack, shuffle windows ──> one plan a split

Copy k of a part has those of its documents that are packed more than k times. So the copies of a
document lie in different places of the run, and however often a source is seen, a group is no
larger.

A plan is a table with a window a row and the shard's own segment columns (`seq_lengths`,
`doc_index`, `doc_offset`), padding included. What is left to do for a shard is to copy tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.shard import PADDING, SPLITS, VALIDATION, shard_schema
from ..core.buckets import histogram, targets_in
from ..core.choices import PackingName
from ..core.packing import Packing, pack, reorder_windows
from ..core.runs import runs
from ..core.selection import Quota, copies, is_validation, rank, rank_bin
from ..core.shuffle import Purpose, permutation
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex

__all__ = [
    "Documents",
    "Group",
    "GroupPlan",
    "Member",
    "Occurrences",
    "PartRef",
    "PlanSettings",
    "Ranked",
    "SplitPlan",
    "in_packed_order",
    "make_groups",
    "occurrences_of",
    "part_documents",
    "plan_group",
    "plan_schema",
    "plan_table",
    "training_documents",
]

REASONS = ("duplicate", "mixing")
"""Why a document has no copy."""


@dataclass(frozen=True, kw_only=True)
class PartRef:
    """A part of the store.

    Attributes:
        part: its name.
        source: the source of its documents.
        first_document: index in the store of its first document.
        documents: how many it has.
        tokens: of all its documents.
    """

    part: str
    source: str
    first_document: int
    documents: int
    tokens: int


@dataclass(frozen=True)
class Member:
    """The documents of a part that have more than `copy` copies."""

    part: PartRef
    copy: int


@dataclass(frozen=True)
class Group:
    """What is shuffled and packed together; members in order of the store, then of the copy."""

    ordinal: int
    members: tuple[Member, ...]

    @property
    def tokens(self) -> int:
        """What the group has at most: all stored tokens of its members' parts."""
        return sum(member.part.tokens for member in self.members)


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What a plan depends on beside the store."""

    window: int
    packing: PackingName
    validation_fraction: Fraction
    seed: int


def make_groups(
    parts: Sequence[PartRef], quotas: Mapping[str, Quota], group_tokens: int, seed: int
) -> list[Group]:
    """Members in seeded order, in groups of at most `group_tokens` tokens (or a single member).

    A member counts with all tokens of its part, whatever is selected of them: that bounds what a
    group packs, what it reads, and the number of its parts.

    Args:
        parts: of the store, in its order.
        quotas: of each source.
        group_tokens: stored tokens.
        seed: of the order.
    """
    members = [
        Member(part, copy)
        for part in parts
        for copy in range(max(1, ceil(quotas[part.source].copies)))
    ]
    order = permutation(len(members), seed, Purpose.PARTS).tolist()
    groups = runs((members[i] for i in order), lambda member: member.part.tokens, group_tokens)
    return [
        Group(i, tuple(sorted(group, key=lambda member: (member.part.first_document, member.copy))))
        for i, group in enumerate(groups)
    ]


@dataclass(frozen=True)
class Documents:
    """Documents of one part and what selection decided; shapes [documents].

    Attributes:
        index: in the store.
        lengths: in tokens.
        validates: whether they are of the validation split.
        copies: how often they are packed.
        repeated: whether an earlier document has the same content.
    """

    index: NDArray[np.int64]
    lengths: NDArray[np.int32]
    validates: NDArray[np.bool_]
    copies: NDArray[np.int32]
    repeated: NDArray[np.bool_]


def part_documents(
    part: PartRef,
    part_index: PartIndex,
    quota: Quota,
    repeated: NDArray[np.bool_],
    settings: PlanSettings,
) -> Documents:
    """Selects among the documents of a part.

    Args:
        part: the part.
        part_index: its index.
        quota: of its source.
        repeated: whether an earlier document has the same content, shape [documents].
        settings: the split.
    """
    index = part.first_document + np.arange(part.documents)
    prefixes = hash_prefixes(part_index.hashes)
    validates = is_validation(prefixes, settings.validation_fraction, settings.seed)
    count = np.where(validates, 1, copies(rank(prefixes, settings.seed), index, quota))
    count[repeated] = 0
    return Documents(index, part_index.lengths, validates, count.astype(np.int32), repeated)


@dataclass(frozen=True)
class Ranked:
    """Training documents of one source; shapes [documents].

    Attributes:
        ranks: in which order documents get an additional copy.
        index: in the store.
        lengths: in tokens.
    """

    ranks: NDArray[np.uint64]
    index: NDArray[np.int64]
    lengths: NDArray[np.int32]

    def in_bin(self, number: int) -> "Ranked":
        """Those whose rank is in a bin of `selection.rank_bin`."""
        mine = rank_bin(self.ranks) == number
        return Ranked(self.ranks[mine], self.index[mine], self.lengths[mine])


def training_documents(
    part: PartRef, part_index: PartIndex, repeated: NDArray[np.bool_], settings: PlanSettings
) -> Ranked:
    """The training documents of a part that are not repeated; arguments as of `part_documents`."""
    index = part.first_document + np.arange(part.documents)
    prefixes = hash_prefixes(part_index.hashes)
    train = ~is_validation(prefixes, settings.validation_fraction, settings.seed) & ~repeated
    return Ranked(rank(prefixes[train], settings.seed), index[train], part_index.lengths[train])


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The windows a group has of a split, and what they add up to.

    Attributes:
        packing: the windows; `document` counts occurrences.
        doc_index: index in the store of each occurrence.
        by_source: for each source: documents (occurrences), tokens, targets and histogram.
        cut_documents: occurrences that have more than one segment.
    """

    packing: Packing
    doc_index: NDArray[np.int64]
    by_source: Mapping[str, Mapping[str, Any]]
    cut_documents: int


@dataclass(frozen=True)
class GroupPlan:
    """The plan of a group.

    Attributes:
        splits: the windows of each split.
        dropped: by source and reason, documents without a copy; each is counted in the group that
            has copy 0 of its part.
    """

    splits: Mapping[str, SplitPlan]
    dropped: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Occurrences:
    """Index in the store, length and source of documents' copies; shapes [occurrences]."""

    index: NDArray[np.int64]
    lengths: NDArray[np.int32]
    source: NDArray[np.int16]

    def __getitem__(self, chosen: NDArray[Any]) -> "Occurrences":
        return Occurrences(self.index[chosen], self.lengths[chosen], self.source[chosen])

    @classmethod
    def joined(cls, some: Sequence["Occurrences"]) -> "Occurrences":
        """One after the other; `some` are at least one."""
        return cls(
            np.concatenate([one.index for one in some]),
            np.concatenate([one.lengths for one in some]),
            np.concatenate([one.source for one in some]),
        )


def plan_group(
    group: Group, documents: Callable[[PartRef], Documents], settings: PlanSettings
) -> GroupPlan:
    """Plans the windows of a group, for each split.

    Args:
        group: its members.
        documents: the selected documents of a part; asked for once a part.
        settings: window, packing and seed.
    """
    sources = sorted({member.part.source for member in group.members})
    found, dropped = occurrences_of(group, documents, sources)
    plans: dict[str, SplitPlan] = {}
    for number, split in enumerate(SPLITS):
        ordered = in_packed_order(found.pop(split), group, split, settings.seed)
        plans[split] = _plan_split(ordered, sources, settings, (group.ordinal, number))
    return GroupPlan(plans, dropped)


def occurrences_of(
    group: Group, documents: Callable[[PartRef], Documents], sources: Sequence[str]
) -> tuple[dict[str, Occurrences], dict[str, dict[str, int]]]:
    """What a group has of each split, in the order of its members; and `GroupPlan.dropped`.

    Args:
        group: its members.
        documents: the selected documents of a part; asked for once a part.
        sources: names; `Occurrences.source` counts them.
    """
    found: dict[str, list[Occurrences]] = {split: [] for split in SPLITS}
    dropped: dict[str, dict[str, int]] = {}
    for part, members in groupby(group.members, key=lambda member: member.part):
        chosen = documents(part)
        source = np.full(part.documents, sources.index(part.source), np.int16)
        everything = Occurrences(chosen.index, chosen.lengths, source)
        for member in members:
            due = chosen.copies > member.copy
            for split, one in found.items():
                one.append(everything[due & (chosen.validates == (split == VALIDATION))])
            if member.copy == 0:
                _count_dropped(chosen, dropped.setdefault(part.source, dict.fromkeys(REASONS, 0)))
    return {split: Occurrences.joined(found.pop(split)) for split in SPLITS}, dropped


def in_packed_order(occurrences: Occurrences, group: Group, split: str, seed: int) -> Occurrences:
    """What a group has of a split, in the order in which it is packed."""
    scope = (group.ordinal, SPLITS.index(split))
    order = permutation(len(occurrences.index), seed, Purpose.DOCUMENTS, *scope)
    return occurrences[order]


def _count_dropped(chosen: Documents, counts: dict[str, int]) -> None:
    counts["duplicate"] += int(chosen.repeated.sum())
    counts["mixing"] += int(((chosen.copies == 0) & ~chosen.repeated).sum())


def _plan_split(
    occurrences: Occurrences, sources: list[str], settings: PlanSettings, scope: tuple[int, int]
) -> SplitPlan:
    lengths, source = occurrences.lengths, occurrences.source
    packing = pack(lengths, settings.window, settings.packing)
    windows = permutation(packing.windows, settings.seed, Purpose.WINDOWS, *scope)
    packing = reorder_windows(packing, windows)
    return SplitPlan(
        packing=packing,
        doc_index=occurrences.index,
        by_source={
            name: _share(
                lengths[source == i], packing.length[source[packing.document] == i], settings.window
            )
            for i, name in enumerate(sources)
        },
        cut_documents=int((np.bincount(packing.document) > 1).sum()),
    )


def _share(
    documents: NDArray[np.int32], segments: NDArray[np.int32], window: int
) -> dict[str, Any]:
    return {
        "documents": len(documents),
        "tokens": int(documents.sum(dtype=np.int64)),
        "targets": targets_in(segments),
        "histogram": histogram(segments, window).tolist(),
    }


def plan_schema(window: int) -> Any:
    """The segment columns of a shard."""
    schema = shard_schema(window)
    return pa.schema([schema.field(name) for name in ("seq_lengths", "doc_index", "doc_offset")])


def plan_table(plan: SplitPlan) -> Any:
    """A plan as a table, a window a row; what a window has free is a last segment of padding."""
    packing = plan.packing
    free = (
        packing.window - np.add.reduceat(packing.length, packing.first[:-1])
        if packing.windows
        else np.empty(0, np.int64)
    )
    padded = free > 0
    after = packing.first[1:][padded]
    lengths = np.insert(packing.length, after, free[padded])
    doc_index = np.insert(plan.doc_index[packing.document], after, PADDING)
    doc_offset = np.insert(packing.offset, after, 0)
    first = packing.first + np.concatenate(([0], np.cumsum(padded)))
    schema = plan_schema(packing.window)
    columns = [
        pa.ListArray.from_arrays(pa.array(first, pa.int32()), pa.array(values), type=field.type)
        for field, values in zip(schema, (lengths, doc_index, doc_offset), strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)
