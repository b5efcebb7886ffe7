"""The command `show`: windows of a shard set as a person reads them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ...schemas.errors import ExactcptError, FormatError, UsageError
from ...schemas.manifest import Manifest
from ...schemas.shard import PADDING, TRAIN
from ...schemas.sizes import plural
from ..core.buckets import context_codes
from ..files.storage import Folder
from ..shard_set.documents import DocumentRow, find_ids, ids_near, read_rows
from ..shard_set.windows import Segment, read_segments, read_windows
from .decoding import visible
from .lines import Block, View

__all__ = ["document_view", "heaviest_view", "window_view"]

EXCERPT = 60
"""Tokens shown of a heavy span."""
AMBIGUOUS = 5


def window_view(shards: Folder, manifest: Manifest, split: str, number: int) -> View:
    """One window.

    Raises:
        UsageError: there is no such window.
    """
    windows = manifest["splits"][split]["windows"]
    if not 0 <= number < windows:
        raise UsageError(
            f"there is no window {number:,} in {split}",
            where=shards.url,
            expected=f"0 to {windows - 1:,}" if windows else "another --split: this one is empty",
        )
    segments = next(read_windows(shards, manifest, split, [number]))
    rows = read_rows(shards, manifest, _documents(segments))
    padding = sum(len(s.tokens) for s in segments if s.document == PADDING)
    count = sum(s.document != PADDING for s in segments)
    title = f"window {number:,} of {split}, which has {windows:,}"
    return View(
        title=title,
        notes=(
            f"{manifest['settings']['window']:,} tokens, {plural(count, 'segment')}, "
            + (f"{padding:,} tokens of padding" if padding else "no padding"),
        ),
        blocks=[_block(s, *_origin(s, rows)) for s in segments],
        weights=_weights(manifest, split),
    )


def document_view(shards: Folder, manifest: Manifest, wanted: str) -> View:
    """A document through its windows.

    Raises:
        UsageError: there is no such document, or several.
        ExactcptError: it is in no window.
    """
    row = _find_document(shards, manifest, wanted)
    if not row.copies:
        reasons = {
            "duplicate": "another document has the same content",
            "mixing": "epochs, share or token budget left it out",
        }
        reason = reasons.get(row.drop_reason or "", str(row.drop_reason))
        raise ExactcptError(
            f"document {visible(row.id)!r} is in no window: it was dropped ({row.drop_reason}: "
            f"{reason})",
            where=f"{shards.url}, doc_index {row.doc_index:,}",
        )
    segments = _segments_of(shards, manifest, row)
    windows = sorted({segment.window for segment in segments})

    def block(segment: Segment) -> Block:
        _, *part = _origin(segment, {row.doc_index: row})
        return _block(segment, f"window {segment.window:,}, position {segment.start:,}", *part)

    return View(
        title=f"document {visible(row.id)} of {visible(row.source)}",
        notes=(
            f"doc_index {row.doc_index:,}, {row.n_tokens:,} tokens, "
            f"{plural(row.copies, 'copy', 'copies')} in {row.split}, "
            f"in {plural(len(windows), 'window')}: {_some(windows)}",
        ),
        blocks=map(block, segments),
        weights=_weights(manifest, row.split),
    )


def _segments_of(shards: Folder, manifest: Manifest, row: DocumentRow) -> list[Segment]:
    """All segments of a document, in its own order; their tokens stay in the files."""
    windows: list[int] = []
    for segments in read_segments(shards, manifest, row.split):
        windows += np.unique(segments.window[segments.document == row.doc_index]).tolist()
    if not windows:
        raise FormatError(
            f"document {visible(row.id)!r} is in no window",
            where=shards.url,
            expected=f"{plural(row.copies, 'copy', 'copies')} in {row.split}",
            fix="see what `exactcpt verify` says of the set",
        )
    found = [
        segment
        for window in read_windows(shards, manifest, row.split, windows)
        for segment in window
        if segment.document == row.doc_index
    ]
    return sorted(found, key=lambda segment: (segment.offset, segment.window))


def _find_document(shards: Folder, manifest: Manifest, wanted: str) -> DocumentRow:
    """By id, or else by doc_index; `#12` is always a doc_index."""
    number = wanted.removeprefix("#")
    is_number = number.isascii() and number.isdigit()
    found: list[int] = []
    if not (is_number and wanted != number):
        found = find_ids(shards, manifest, wanted, AMBIGUOUS + 1)
    if not found and is_number:
        found = [int(number)]
    if len(found) > 1:
        shown = ", ".join(f"#{i}" for i in found[:AMBIGUOUS])
        raise UsageError(
            f"{len(found) if len(found) <= AMBIGUOUS else f'more than {AMBIGUOUS}'} documents have "
            f"the id {visible(wanted)!r}",
            where=shards.url,
            fix=f"name one by its doc_index: {shown}",
        )
    rows = read_rows(shards, manifest, found)
    if rows:
        return next(iter(rows.values()))
    documents = sum(entry["rows"] for entry in manifest["documents"])
    near = ", ".join(repr(visible(name)) for name in ids_near(shards, manifest, wanted))
    raise UsageError(
        f"there is no document {visible(wanted)!r}",
        where=shards.url,
        expected=f"an id, or a doc_index from 0 to {documents - 1:,}",
        fix=f"ids near it: {near}" if near else None,
    )


class _Span(NamedTuple):
    extra: float
    window: int
    start: int
    length: int


def heaviest_view(shards: Folder, manifest: Manifest, split: str, count: int) -> View:
    """The segments whose targets have the most extra weight, and where it begins in them."""
    extra = _extra_of_context(manifest, split)
    upto = np.concatenate([[0.0], np.cumsum(extra)])
    spans: list[_Span] = []
    total, number, largest, ties = 0.0, 0, 0.0, 0
    for segments in read_segments(shards, manifest, split):
        of = np.where(segments.document == PADDING, 0.0, upto[segments.length])
        total += float(of.sum())
        number += int(np.count_nonzero(of))
        most = float(of.max(initial=0.0))
        if most >= largest:
            ties = int(np.count_nonzero(of == most)) + (ties if most == largest else 0)
            largest = most
        order = np.argsort(-of, kind="stable")[:count]
        best = order[of[order] > 0]
        columns = (of[best], segments.window[best], segments.start[best], segments.length[best])
        spans += map(_Span, *(column.tolist() for column in columns))
        spans = sorted(spans, key=lambda span: -span.extra)[:count]
    notes = [f"no target of {split} weighs more than 1"]
    if spans:
        part = sum(span.extra for span in spans) / total
        notes = [
            "extra weight: the sum of w - 1 over the targets that weigh more than 1",
            f"{plural(number, 'segment')} of {split} have some; {len(spans):,} shown, with "
            f"{part:.1%} of it",
        ]
    if ties > 1 and spans:
        notes.append(f"{ties:,} segments have as much as the first")
    return View(
        title=f"the heaviest segments of {split}",
        notes=tuple(notes),
        blocks=_spans(shards, manifest, split, spans, extra) if spans else (),
        weights=_weights(manifest, split),
    )


def _extra_of_context(manifest: Manifest, split: str) -> Any:
    """What a target's weight has above 1, for each effective context."""
    table = [row["weight"] for row in manifest["weights"]["table"]]
    weights = np.array([0.0, *(table if split == TRAIN else [1.0] * len(table))])
    return np.maximum(weights[context_codes(manifest["settings"]["window"])] - 1, 0)


def _spans(
    shards: Folder, manifest: Manifest, split: str, spans: list[_Span], extra: Any
) -> Iterator[Block]:
    numbers = sorted({span.window for span in spans})
    windows = {s[0].window: s for s in read_windows(shards, manifest, split, numbers)}
    chosen = [next(s for s in windows[span.window] if s.start == span.start) for span in spans]
    rows = read_rows(shards, manifest, _documents(chosen))
    for i, (span, segment) in enumerate(zip(spans, chosen, strict=True)):
        heavy = np.flatnonzero(extra[: span.length])
        first, last = int(heavy[0]), int(heavy[-1])
        shown = slice(first, min(first + EXCERPT, len(segment.tokens)))
        yield Block(
            heading=(
                f"{i + 1}. +{span.extra:,.1f}, window {span.window:,}, "
                f"effective contexts {first:,}-{last:,}",
                *_origin(segment, rows),
            ),
            ids=segment.tokens[shown],
            weights=segment.weights[shown],
            supervised=segment.supervised[shown],
            first=first,
        )


def _block(segment: Segment, *heading: str) -> Block:
    shown = slice(0, 0 if segment.document == PADDING else None)
    return Block(
        heading=heading,
        ids=segment.tokens[shown],
        weights=segment.weights[shown],
        supervised=segment.supervised[shown],
    )


def _origin(segment: Segment, rows: Mapping[int, DocumentRow]) -> tuple[str, ...]:
    """Which document a segment is of, and which part of it."""
    begin, end = segment.offset, segment.offset + len(segment.tokens)
    if segment.document == PADDING:
        return "padding", f"{end:,} tokens"
    row = rows.get(segment.document)
    if row is None:
        return f"#{segment.document}, which is not in the documents table", f"from token {begin:,}"
    whole = begin == 0 and end == row.n_tokens
    part = f"all {row.n_tokens:,} tokens" if whole else f"tokens {begin:,}-{end - 1:,}"
    part += "" if whole else f" of {row.n_tokens:,}"
    copies = (f"one of {row.copies:,} copies",) if row.copies > 1 else ()
    return f"{visible(row.source)}: {visible(row.id)} (#{row.doc_index})", part, *copies


def _documents(segments: Iterable[Segment]) -> set[int]:
    return {segment.document for segment in segments} - {PADDING}


def _weights(manifest: Manifest, split: str) -> tuple[float, ...]:
    """All weights of a split, as its shards have them, rising."""
    table = {float(np.float32(row["weight"])) for row in manifest["weights"]["table"]}
    return tuple(sorted({1.0, *(table if split == TRAIN else ())}))


def _some(numbers: list[int], most: int = 8) -> str:
    shown = ", ".join(f"{n:,}" for n in numbers[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most:,} more"
