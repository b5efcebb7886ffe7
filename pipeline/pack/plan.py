"""The plan: which segments each window has, from the store's index alone.

    parts x copy numbers ── seeded order, up to group_tokens ──> groups
    group ── select, shuffle, pack, shuffle windows ──> one plan per split

A group is a shuffle group: documents that are shuffled and packed together. Its members are copies
of parts. Copy k of a part has those of its documents that are packed more than k times. So the
copies of a document are spread over the whole run, and groups do not grow with the number of times
that a source is seen.

A plan is a table with one window per row and the shard's own segment columns (`seq_lengths`,
`doc_index`, `doc_offset`), padding included, and its `supervised` spans if the store has some. To
write a shard, only tokens have to be copied.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.runs import runs
from ...schemas.shard import PADDING, SPLITS, VALIDATION, shard_schema
from ...schemas.windows import segment_columns
from ..core.buckets import histogram, sum_by_bucket
from ..core.packing import Packing, pack, reorder_windows
from ..core.selection import Quota
from ..core.shuffle import Purpose, permutation
from ..core.spans import Spans
from ..files.arrow import span_lists
from .documents import Documents, PartRef, PlanSettings

__all__ = [
    "Group",
    "GroupMember",
    "GroupPlan",
    "Occurrences",
    "SplitPlan",
    "in_packed_order",
    "make_groups",
    "occurrences_of",
    "plan_group",
    "plan_schema",
    "plan_table",
]

REASONS = ("duplicate", "mixing")
"""Why documents are dropped."""


@dataclass(frozen=True)
class GroupMember:
    """The documents of a part that have more than `copy` copies."""

    part: PartRef
    copy: int


@dataclass(frozen=True)
class Group:
    """Documents that are shuffled and packed together; members by part, then by copy."""

    ordinal: int
    members: tuple[GroupMember, ...]

    @property
    def tokens(self) -> int:
        """All stored tokens of its members' parts: the most that it can have."""
        return sum(member.part.tokens for member in self.members)


def make_groups(
    parts: Sequence[PartRef], quotas: Mapping[str, Quota], group_tokens: int, seed: int
) -> list[Group]:
    """Puts members in seeded order and cuts them into groups.

    A member counts with all tokens of its part, whatever is selected of them: that bounds what a
    group packs, what it reads, and the number of its parts.

    Args:
        parts: all parts of the store, in order.
        quotas: the quota of each source.
        group_tokens: most stored tokens of a group, unless it has a single member.
        seed: of the order.
    """
    members = [
        GroupMember(part, copy)
        for part in parts
        for copy in range(max(1, ceil(quotas[part.source].copies)))
    ]
    order = permutation(len(members), seed, Purpose.PARTS).tolist()
    groups = runs((members[i] for i in order), lambda member: member.part.tokens, group_tokens)
    return [
        Group(i, tuple(sorted(group, key=lambda member: (member.part.first_document, member.copy))))
        for i, group in enumerate(groups)
    ]


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers in the windows of a split: the supervised spans of documents that have others.

    Attributes:
        answers: how many there are; one that is cut counts once for each window.
        cut_off: those in segments that do not begin with their document.
    """

    answers: int
    cut_off: int


@dataclass(frozen=True, kw_only=True)
class SplitPlan:
    """The windows of one split of a group, and their sums.

    Attributes:
        packing: the windows; its documents are occurrences of documents.
        doc_index: index in the store of each occurrence, shape [occurrences].
        by_source: documents (occurrences), tokens, targets and histogram of each source.
        cut_documents: occurrences that are split across windows.
        supervised: the supervised spans of each segment; None if all tokens are supervised.
        answers: counts of them; None if all tokens are supervised.
    """

    packing: Packing
    doc_index: NDArray[np.int64]
    by_source: Mapping[str, Mapping[str, Any]]
    cut_documents: int
    supervised: Spans | None
    answers: Answers | None


@dataclass(frozen=True)
class GroupPlan:
    """The plan of a group.

    Attributes:
        splits: the windows of each split.
        dropped: documents without a copy, by source and reason; each is counted in the group that
            has copy 0 of its part.
    """

    splits: Mapping[str, SplitPlan]
    dropped: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Occurrences:
    """Index in the store, length and source number of occurrences; shapes [occurrences].

    They have supervised spans if the store has some.
    """

    index: NDArray[np.int64]
    lengths: NDArray[np.int32]
    source: NDArray[np.int16]
    supervised: Spans | None = None

    def __getitem__(self, chosen: NDArray[Any]) -> "Occurrences":
        return Occurrences(
            self.index[chosen],
            self.lengths[chosen],
            self.source[chosen],
            None if self.supervised is None else self.supervised[chosen],
        )

    @classmethod
    def joined(cls, some: Sequence["Occurrences"]) -> "Occurrences":
        """All of them, one after the other; there must be at least one."""
        return cls(
            np.concatenate([one.index for one in some]),
            np.concatenate([one.lengths for one in some]),
            np.concatenate([one.source for one in some]),
            _joined([one.supervised for one in some]),
        )


def _joined(some: Sequence[Spans | None]) -> Spans | None:
    """Joins the spans of all parts of a store; they have some, or none of them has."""
    given = [spans for spans in some if spans is not None]
    if len(given) not in (0, len(some)):
        raise FormatError(
            "some parts of the token store have supervised spans, and others have none",
            fix="restore the token store, or tokenize again",
        )
    return Spans.joined(given) if given else None


def plan_group(
    group: Group, documents: Callable[[PartRef], Documents], settings: PlanSettings
) -> GroupPlan:
    """Plans the windows of a group, for each split.

    Args:
        group: the group.
        documents: returns the documents of a part; called once per part.
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
    """The occurrences of each split in a group, in the order of its members.

    Args:
        group: the group.
        documents: returns the documents of a part; called once per part.
        sources: names of the sources, in the order of their numbers.

    Returns:
        The occurrences by split, and `GroupPlan.dropped`.
    """
    found: dict[str, list[Occurrences]] = {split: [] for split in SPLITS}
    dropped: dict[str, dict[str, int]] = {}
    for part, members in groupby(group.members, key=lambda member: member.part):
        chosen = documents(part)
        source = np.full(part.documents, sources.index(part.source), np.int16)
        everything = Occurrences(chosen.index, chosen.lengths, source, chosen.supervised)
        for member in members:
            due = chosen.copies > member.copy
            for split, one in found.items():
                one.append(everything[due & (chosen.validates == (split == VALIDATION))])
            if member.copy == 0:
                _count_dropped(chosen, dropped.setdefault(part.source, dict.fromkeys(REASONS, 0)))
    return {split: Occurrences.joined(found.pop(split)) for split in SPLITS}, dropped


def in_packed_order(occurrences: Occurrences, group: Group, split: str, seed: int) -> Occurrences:
    """The occurrences of a split in a group, in the seeded order in which they are packed."""
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
    of_documents, spans, answers = occurrences.supervised, None, None
    if of_documents is not None:
        spans = of_documents.within(packing.document, packing.offset, packing.length)
        answers = _count_answers(of_documents, spans, lengths, packing)
    return SplitPlan(
        packing=packing,
        doc_index=occurrences.index,
        by_source={
            name: _share(
                lengths[source == i], packing, spans, source[packing.document] == i, settings.window
            )
            for i, name in enumerate(sources)
        },
        cut_documents=int((np.bincount(packing.document) > 1).sum()),
        supervised=spans,
        answers=answers,
    )


def _count_answers(
    of_documents: Spans, of_segments: Spans, lengths: NDArray[np.int32], packing: Packing
) -> Answers:
    plain = np.diff(of_documents.bounds) == 1
    first = of_documents.bounds[:-1]
    plain &= (of_documents.stop - of_documents.start)[first] == lengths
    counts = np.diff(of_segments.bounds)
    counts[plain[packing.document]] = 0
    cut_off = counts[packing.offset > 0]
    return Answers(answers=int(counts.sum()), cut_off=int(cut_off.sum()))


def _share(
    documents: NDArray[np.int32],
    packing: Packing,
    spans: Spans | None,
    mine: NDArray[np.bool_],
    window: int,
) -> dict[str, Any]:
    """What a source has in the windows: some documents, and some of the segments."""
    if spans is None:
        counts = histogram(packing.length[mine], window)
    else:
        counts = sum_by_bucket(spans[mine].targets_by_context(window), window)
    return {
        "documents": len(documents),
        "tokens": int(documents.sum(dtype=np.int64)),
        "targets": int(counts.sum()),
        "histogram": counts.tolist(),
    }


def plan_schema(window: int, spans: bool = False) -> pa.Schema:
    """The columns of a shard that a plan has.

    Args:
        window: window length in tokens.
        spans: whether it has supervised spans.
    """
    schema = shard_schema(window, spans)
    return pa.schema([schema.field(name) for name in segment_columns(spans)])


def plan_table(plan: SplitPlan) -> pa.Table:
    """A plan as a table, one window per row; free room is a last segment of padding."""
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
    schema = plan_schema(packing.window, plan.supervised is not None)
    columns: list[pa.Array] = [
        pa.ListArray.from_arrays(pa.array(first, pa.int32()), pa.array(values), type=field.type)
        for field, values in zip(schema, (lengths, doc_index, doc_offset), strict=False)
    ]
    if plan.supervised is not None:
        columns.append(_span_column(plan.supervised, packing))
    return pa.Table.from_arrays(columns, schema=schema)


def _span_column(spans: Spans, packing: Packing) -> pa.Array:
    """The spans of the segments of each window, as positions in the window."""
    counts = np.diff(packing.first)
    before = np.cumsum(packing.length, dtype=np.int64) - packing.length
    before -= np.repeat(before[packing.first[:-1]], counts) if len(counts) else 0
    shift = np.repeat(before, np.diff(spans.bounds)).astype(np.int32)
    return span_lists(spans.bounds[packing.first], spans.start + shift, spans.stop + shift)
