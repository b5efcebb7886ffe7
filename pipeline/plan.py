"""The plan: which segments each window has, decided from the store's index alone.

    parts ── seeded order, up to group_tokens ──> groups
    group ── select, shuffle, pack, shuffle windows ──> one plan a split

A plan is a table with a window a row and the shard's own segment columns (`seq_lengths`,
`doc_index`, `doc_offset`), padding included. What is left to do for a shard is to copy tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..schemas.shard import PADDING, SPLITS, VALIDATION, shard_schema
from .buckets import bucket_count, histogram, targets_in
from .packing import Packing, PackingName, pack, reorder_windows
from .runs import runs
from .selection import Quota, copies, is_validation, rank
from .shuffle import Purpose, permutation
from .store import PartIndex, hash_prefixes

__all__ = [
    "Documents",
    "Group",
    "PartRef",
    "PlanSettings",
    "SplitPlan",
    "make_groups",
    "part_documents",
    "plan_group",
    "plan_schema",
    "plan_table",
    "repeats_in",
]


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
class Group:
    """Parts whose documents are shuffled and packed together; parts in the order of the store."""

    ordinal: int
    parts: tuple[PartRef, ...]

    @property
    def tokens(self) -> int:
        """Stored tokens."""
        return sum(part.tokens for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What a plan depends on beside the store."""

    window: int
    packing: PackingName
    validation_fraction: Fraction
    seed: int


def make_groups(parts: Sequence[PartRef], group_tokens: int, seed: int) -> list[Group]:
    """Parts in seeded order, in groups of at most `group_tokens` tokens (or a single part)."""
    order = permutation(len(parts), seed, Purpose.PARTS).tolist()
    groups = runs((parts[i] for i in order), lambda part: part.tokens, group_tokens)
    return [
        Group(i, tuple(sorted(group, key=lambda part: part.first_document)))
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


def repeats_in(part: PartRef, repeated: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which documents of a part are among those with the given indices in the store, rising."""
    found = np.zeros(part.documents, bool)
    first = part.first_document
    begin, end = np.searchsorted(repeated, [first, first + part.documents])
    found[repeated[begin:end] - first] = True
    return found


def part_documents(
    part: PartRef,
    part_index: PartIndex,
    quota: Quota,
    repeated: NDArray[np.int64],
    settings: PlanSettings,
) -> Documents:
    """Selects among the documents of a part.

    Args:
        part: the part.
        part_index: its index.
        quota: of its source.
        repeated: indices in the store of all repeated documents, rising.
        settings: the split.
    """
    index = part.first_document + np.arange(part.documents)
    prefixes = hash_prefixes(part_index.hashes)
    validates = is_validation(prefixes, settings.validation_fraction, settings.seed)
    is_repeat = repeats_in(part, repeated)
    count = np.where(validates, 1, copies(rank(prefixes, settings.seed), index, quota))
    count[is_repeat] = 0
    return Documents(index, part_index.lengths, validates, count.astype(np.int32), is_repeat)


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


def plan_group(
    group: Group, documents: Mapping[str, Documents], settings: PlanSettings
) -> dict[str, SplitPlan]:
    """Plans the windows of a group, for each split.

    Args:
        group: its parts.
        documents: by part, the selected documents.
        settings: window, packing and seed.
    """
    return {
        split: _plan_split(group, documents, settings, number, split == VALIDATION)
        for number, split in enumerate(SPLITS)
    }


def _plan_split(
    group: Group,
    documents: Mapping[str, Documents],
    settings: PlanSettings,
    number: int,
    validation: bool,
) -> SplitPlan:
    scope = (group.ordinal, number)
    sources = sorted({part.source for part in group.parts})
    index, lengths, source = _occurrences(group, documents, sources, validation)
    order = permutation(len(index), settings.seed, Purpose.DOCUMENTS, *scope)
    index, lengths, source = index[order], lengths[order], source[order]
    del order  # a group of short documents has tens of millions of them
    packing = pack(lengths, settings.window, settings.packing)
    windows = permutation(packing.windows, settings.seed, Purpose.WINDOWS, *scope)
    packing = reorder_windows(packing, windows)
    return SplitPlan(
        packing=packing,
        doc_index=index,
        by_source={
            name: _share(
                lengths[source == i], packing.length[source[packing.document] == i], settings.window
            )
            for i, name in enumerate(sources)
        },
        cut_documents=int((np.bincount(packing.document) > 1).sum()),
    )


def _occurrences(
    group: Group, documents: Mapping[str, Documents], sources: list[str], validation: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int16]]:
    """Index in the store, length and source of every copy of the group's documents of a split."""
    index: list[NDArray[np.int64]] = []
    lengths: list[NDArray[np.int32]] = []
    source: list[NDArray[np.int16]] = []
    for part in group.parts:
        chosen = documents[part.part]
        count = np.where(chosen.validates == validation, chosen.copies, 0)
        index.append(np.repeat(chosen.index, count))
        lengths.append(np.repeat(chosen.lengths, count))
        source.append(np.full(len(index[-1]), sources.index(part.source), np.int16))
    return np.concatenate(index), np.concatenate(lengths), np.concatenate(source)


def _share(
    documents: NDArray[np.int32], segments: NDArray[np.int32], window: int
) -> dict[str, Any]:
    counts = (
        histogram(segments, window) if len(segments) else np.zeros(bucket_count(window), np.int64)
    )
    return {
        "documents": len(documents),
        "tokens": int(documents.sum(dtype=np.int64)),
        "targets": targets_in(segments),
        "histogram": counts.tolist(),
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
