"""What `show` shows: windows, a document through its windows, or where the extra weight is."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError, FormatError, UsageError
from ...schemas.manifest import Manifest
from ...schemas.shard import PADDING, TRAIN
from ...schemas.sizes import plural
from ..files.storage import Folder
from ..shard_set.documents import DocumentRow, find_ids, ids_near, read_rows
from ..shard_set.windows import Segment, read_segments, read_windows
from .decoding import visible
from .lines import Block, View
from .spans import Heaviest, Span, extra_of_context, heaviest, spans_with

__all__ = ["document_view", "first_view", "heaviest_view", "step_view", "window_view"]

EXCERPT = 60
"""How many tokens of a heavy segment are shown."""
BEFORE, AFTER = 60, 240
"""How many tokens a first look has, before the first extra weight and from there on."""
AMBIGUOUS = 5
"""How many documents of one id are named."""
MOST_DIGITS = 18
"""Of a `doc_index`."""


def window_view(shards: Folder, manifest: Manifest, split: str, number: int) -> View:
    """Shows one window.

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
    return View(
        title=f"window {number:,} of {split} ({plural(windows, 'window')})",
        notes=(
            f"{manifest['settings']['window']:,} tokens, {plural(count, 'segment')}, "
            + (f"{plural(padding, 'token')} of padding" if padding else "no padding"),
        ),
        blocks=[_block(s, *_origin(s, rows)) for s in segments],
        weights=_weights(manifest, split),
    )


def step_view(shards: Folder, manifest: Manifest, title: str, numbers: list[int]) -> View:
    """Shows the training windows of a step.

    Args:
        shards: the shard set.
        manifest: its manifest.
        title: names the step.
        numbers: of its windows, in the order in which the step takes them.
    """
    return View(
        title=title,
        notes=(f"{plural(len(numbers), 'window')} of {TRAIN}: {_some(numbers)}",),
        blocks=_in_order(shards, manifest, numbers),
        weights=_weights(manifest, TRAIN),
    )


def _in_order(shards: Folder, manifest: Manifest, numbers: list[int]) -> Iterator[Block]:
    for i, number in enumerate(numbers, 1):
        (segments,) = read_windows(shards, manifest, TRAIN, [number])
        rows = read_rows(shards, manifest, _documents(segments))
        for segment in segments:
            where = f"{i:,} of {len(numbers):,}: window {number:,}, position {segment.start:,}"
            yield _block(segment, where, *_origin(segment, rows))


def first_view(shards: Folder, manifest: Manifest, split: str) -> View:
    """Shows the first place where targets weigh more than 1; window 0 if there is none.

    Raises:
        UsageError: the split has no windows.
    """
    extra = extra_of_context(manifest, split)
    span = next(spans_with(shards, manifest, split, extra), None)
    if span is None:
        return window_view(shards, manifest, split, 0)
    (segments,) = read_windows(shards, manifest, split, [span.window])
    segment = next(s for s in segments if s.start == span.start)
    begins = int(np.flatnonzero(np.where(segment.supervised, extra[: span.length], 0))[0])
    shown = slice(max(begins - BEFORE, 0), begins + AFTER)
    where = f"window {span.window:,}, position {span.start + shown.start:,}"
    origin = _origin(segment, read_rows(shards, manifest, {segment.document}))
    return View(
        title=f"the first extra weight of {split}",
        notes=(
            f"it is that of a target with {begins:,} tokens of effective context",
            f"--window {span.window} shows all of this window",
        ),
        blocks=[_excerpt(segment, shown, where, *origin)],
        weights=_weights(manifest, split),
    )


def document_view(shards: Folder, manifest: Manifest, wanted: str) -> View:
    """Shows a document through its windows.

    Raises:
        UsageError: there is no such document, or there are several.
        ExactcptError: it is in no window.
    """
    row = _find_document(shards, manifest, wanted)
    if not row.copies:
        raise _dropped(shards, row)
    segments = _segments_of(shards, manifest, row)
    windows = sorted({segment.window for segment in segments})

    def block(segment: Segment) -> Block:
        _, *part = _origin(segment, {row.doc_index: row})
        return _block(segment, f"window {segment.window:,}, position {segment.start:,}", *part)

    return View(
        title=f"document {visible(row.id)} of {visible(row.source)}",
        notes=(
            f"doc_index {row.doc_index:,}, {plural(row.n_tokens, 'token')}, "
            f"seen {_times(row.copies)} in {row.split}, "
            f"in {plural(len(windows), 'window')}: {_some(windows)}",
        ),
        blocks=map(block, segments),
        weights=_weights(manifest, row.split),
    )


def _dropped(shards: Folder, row: DocumentRow) -> ExactcptError:
    reasons = {
        "duplicate": "another document has the same content",
        "mixing": "epochs, a share or the token budget left it out",
    }
    reason = reasons.get(row.drop_reason or "", str(row.drop_reason))
    return ExactcptError(
        f"document {visible(row.id)!r} is in no window: it was dropped ({row.drop_reason}: "
        f"{reason})",
        where=f"{shards.url}, doc_index {row.doc_index:,}",
    )


def _segments_of(shards: Folder, manifest: Manifest, row: DocumentRow) -> list[Segment]:
    """All segments of a document, in the document's order; their tokens stay in the files."""
    windows: list[int] = []
    for segments in read_segments(shards, manifest, row.split):
        windows += np.unique(segments.window[segments.document == row.doc_index]).tolist()
    if not windows:
        raise FormatError(
            f"document {visible(row.id)!r} is in no window",
            where=shards.url,
            expected=f"{_times(row.copies)} in {row.split}, as the documents table says",
            fix="run `exactcpt verify` on the set",
        )
    found = [
        segment
        for window in read_windows(shards, manifest, row.split, windows)
        for segment in window
        if segment.document == row.doc_index
    ]
    return sorted(found, key=lambda segment: (segment.offset, segment.window))


def _find_document(shards: Folder, manifest: Manifest, wanted: str) -> DocumentRow:
    """Finds a document by its id, or else by its doc_index; `#12` is always a doc_index."""
    wanted = wanted.encode(errors="replace").decode()  # no id has half characters
    number = wanted.removeprefix("#")
    is_number = number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS
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
        fix=f"try a similar id: {near}" if near else None,
    )


def heaviest_view(shards: Folder, manifest: Manifest, split: str, count: int) -> View:
    """Shows the segments whose targets have the most extra weight, from where it begins.

    A long document has many of them; only its heaviest is shown.
    """
    extra = extra_of_context(manifest, split)
    found = heaviest(shards, manifest, split, extra, count)
    return View(
        title=f"the heaviest segments of {split}",
        notes=_heaviest_notes(found, split),
        blocks=_spans(shards, manifest, split, found.spans, extra) if found.spans else (),
        weights=_weights(manifest, split),
    )


def _heaviest_notes(found: Heaviest, split: str) -> tuple[str, ...]:
    if not found.spans:
        return (f"no target of {split} weighs more than 1",)
    share = sum(span.extra for span in found.spans) / found.total
    some = plural(found.number, "segment has", "segments have")
    notes = [
        "extra weight: the sum of w - 1 over the targets that weigh more than 1",
        f"{some} extra weight in {split}; {len(found.spans):,} shown, with {share:.1%} of it, "
        "the heaviest of each document",
    ]
    if found.ties > 1:
        notes.append(f"{found.ties:,} segments tie for the most extra weight")
    return tuple(notes)


def _spans(
    shards: Folder, manifest: Manifest, split: str, spans: list[Span], extra: NDArray[np.float64]
) -> Iterator[Block]:
    numbers = sorted({span.window for span in spans})
    windows = {s[0].window: s for s in read_windows(shards, manifest, split, numbers)}
    chosen = [next(s for s in windows[span.window] if s.start == span.start) for span in spans]
    rows = read_rows(shards, manifest, _documents(chosen))
    for i, (span, segment) in enumerate(zip(spans, chosen, strict=True)):
        heavy = np.flatnonzero(np.where(segment.supervised, extra[: span.length], 0))
        first, last = int(heavy[0]), int(heavy[-1])
        yield _excerpt(
            segment,
            slice(first, first + EXCERPT),
            f"{i + 1}. +{span.extra:,.1f}, window {span.window:,}, "
            f"effective contexts {first:,}-{last:,}",
            *_origin(segment, rows),
        )


def _block(segment: Segment, *heading: str) -> Block:
    return _excerpt(segment, slice(0, 0 if segment.document == PADDING else None), *heading)


def _excerpt(segment: Segment, shown: slice, *heading: str) -> Block:
    return Block(
        heading=heading,
        ids=segment.tokens[shown],
        weights=segment.weights[shown],
        supervised=segment.supervised[shown],
        first=shown.start,
    )


def _origin(segment: Segment, rows: Mapping[int, DocumentRow]) -> tuple[str, ...]:
    """The document that a segment is from, and the range of its tokens."""
    begin, end = segment.offset, segment.offset + len(segment.tokens)
    if segment.document == PADDING:
        return "padding", plural(end, "token")
    row = rows.get(segment.document)
    if row is None:
        return f"#{segment.document}, which is not in the documents table", f"from token {begin:,}"
    whole = begin == 0 and end == row.n_tokens
    tokens = f"tokens {begin:,}-{end - 1:,} of {row.n_tokens:,}"
    if whole:
        tokens = f"all {plural(row.n_tokens, 'token')}"
    repeats = (f"seen {_times(row.copies)}",) if row.copies > 1 else ()
    return f"{visible(row.source)}: {visible(row.id)} (#{row.doc_index})", tokens, *repeats


def _documents(segments: Iterable[Segment]) -> set[int]:
    return {segment.document for segment in segments} - {PADDING}


def _weights(manifest: Manifest, split: str) -> tuple[float, ...]:
    """All weights of a split in the precision of its shards, rising."""
    table = {float(np.float32(row["weight"])) for row in manifest["weights"]["table"]}
    return tuple(sorted({1.0, *(table if split == TRAIN else ())}))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _some(numbers: list[int], most: int = 8) -> str:
    shown = ", ".join(f"{n:,}" for n in numbers[:most])
    return shown if len(numbers) <= most else f"{shown} and {len(numbers) - most:,} more"
