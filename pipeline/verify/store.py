"""The token store: its files, and whether the set has its ids, lengths, hashes and tokens.

Documents are numbered through the store's parts, in the order of the parts' names. A part that was
opened stays mapped, since a shard has documents from many: a remote store takes its size in
temporary space. Each is opened once, however many threads need it.
"""

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.manifest import MANIFEST, TOKEN_STORE, Manifest, has_spans
from ...schemas.shard import SUPERVISED
from ...schemas.sizes import plural
from ...schemas.store import index_schema, part_schema
from .arrays import (
    UNREADABLE,
    Array,
    cause,
    differing_fields,
    groups,
    hashes,
    nulls,
    numbered,
    ranges,
)
from .encoding import count_tokens
from .files import Folder, Meter
from .report import Problems
from .windows import Windows

__all__ = ["Store", "check_store"]


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A record batch of a part with its rows of the index; `row` is its first row in the part."""

    entry: Any
    row: int
    ids: pa.Array
    offsets: Array
    values: Array
    length: Array
    content_hash: Array
    spans: "_StoredSpans | None"


@dataclass(frozen=True, kw_only=True)
class _StoredSpans:
    """The supervised spans of the documents of a record batch, all in rising order.

    Attributes:
        start, stop: in the values of the batch.
    """

    start: Array
    stop: Array

    def have(self, at: Array) -> Array:
        """Whether these places of the values are in a span."""
        return np.searchsorted(self.start, at, "right") > np.searchsorted(self.stop, at, "right")


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """A part that was opened, or could not be, and what was found by that.

    Attributes:
        batches: its record batches; none if it cannot be used.
        problems: why not.
        meter: what was read.
    """

    batches: list[_Stored]
    problems: Problems
    meter: Meter


def check_store(folder: Folder, shards: Manifest, problems: Problems) -> Manifest | None:
    """Checks what is not in the store's parts; the manifest, or None if the shards have another.

    Raises:
        IncompleteError: there is no manifest.
        FormatError: the manifest is not JSON, of another format, or not as its schema says.
    """
    manifest, found = folder.manifest(TOKEN_STORE)
    expected = shards["store"] and shards["store"]["manifest_xxh3_128"]
    if found != expected:
        where = f"{folder.root}/{MANIFEST}: xxh3-128"
        problems.add("store", where, f"{found}: another store", expected)
        problems.note("store", "skipped: it is not the store of these shards")
        return None
    folder.check_tokenizer(manifest["tokenizer"], "store")
    _check_shared(shards, manifest, problems)
    parts = plural(len(manifest["parts"]), "part")
    documents = sum(part["documents"] for part in manifest["parts"])
    problems.note("store", f"{parts}, {plural(documents, 'document')}")
    return manifest


def _check_shared(shards: Manifest, manifest: Manifest, problems: Problems) -> None:
    """Checks what the two manifests have in common."""
    same = {
        "format_version": shards["format_version"] == manifest["format_version"],
        "tokenizer": shards["tokenizer"] == manifest["tokenizer"],
        "inputs": shards["inputs"] == manifest["inputs"],
        "settings.tokenize": shards["settings"]["tokenize"] == manifest["settings"],
    }
    for key, is_same in same.items():
        if not is_same:
            problems.add("store", f"{MANIFEST}: {key}", "it differs from the store's manifest")
    read = {source["name"]: source["read"] for source in manifest["sources"]}
    for source in shards["sources"]:
        where = f"{MANIFEST}: source {source['name']}, read"
        problems.compare("store", where, source["read"], read.get(source["name"]))


class Store:
    """The token store the shards were made from; its parts are opened when they are needed.

    Args:
        url: path or URL of the store.
        manifest: of the store.
    """

    def __init__(self, url: str, manifest: Manifest) -> None:
        self._url, self._manifest = url, manifest
        self._entries = sorted(manifest["parts"], key=lambda entry: entry["part"])
        documents = np.array([entry["documents"] for entry in self._entries], np.int64)
        self._firsts = np.cumsum(documents) - documents
        self._documents = int(documents.sum())
        self._open: dict[int, _Opened] = {}
        self._locks = [threading.Lock() for _ in self._entries]

    def check_part(self, number: int, problems: Problems, meter: Meter) -> Counter[str] | None:
        """Opens a part and counts its tokens, see `count_tokens`; None if it cannot be used."""
        opened = self._part(number)
        problems.merge(opened.problems)
        meter.advance(opened.meter.done, opened.meter.files)
        if not opened.batches:
            return None
        return count_tokens(((s.offsets, s.values) for s in opened.batches), self._manifest)

    def source_of(self, number: int) -> str:
        """The source of a part's documents."""
        return self._entries[number]["source"]

    def size_of(self, number: int) -> int:
        """The bytes of a part's files."""
        return sum(self._entries[number][kind]["bytes"] for kind in ("file", "index"))

    def unusable(self) -> set[int]:
        """Those of the parts that were opened which cannot be used."""
        return {number for number, opened in [*self._open.items()] if not opened.batches}

    def where(self, number: int) -> str:
        """A part, in words."""
        return f"part {self._entries[number]['part']}"

    def _part(self, number: int) -> _Opened:
        """A part; why it cannot be used, if it cannot, `check_part` tells."""
        with self._locks[number]:
            if number not in self._open:
                problems, meter = Problems(), Meter()
                folder, entry = Folder(self._url, problems, meter), self._entries[number]
                batches = _open_part(folder, entry, has_spans(self._manifest), problems)
                self._open[number] = _Opened(batches=batches, problems=problems, meter=meter)
            return self._open[number]

    def check_size(self, documents: int, problems: Problems) -> None:
        """Checks that the documents table has as many documents."""
        problems.compare("store", "documents: rows", documents, self._documents)

    def _groups(self, document: Array, values: Array) -> Iterator[tuple[_Stored, int, Array]]:
        """The usable record batches, with their first documents and their share of the values."""
        known = (document >= 0) & (document < self._documents)
        document, values = document[known], values[known]
        part = np.searchsorted(self._firsts, document, "right") - 1
        for number, mine in groups(part, np.arange(len(part))):
            batches = self._part(number).batches
            rows = document[mine] - self._firsts[number]
            starts = np.array([stored.row for stored in batches], np.int64)
            for i, some in groups(np.searchsorted(starts, rows, "right") - 1, mine):
                if batches:
                    stored = batches[i]
                    yield stored, int(self._firsts[number]) + stored.row, values[some]

    def check_documents(self, first: int, rows: pa.RecordBatch, problems: Problems) -> None:
        """Checks rows of the documents table, which begin with document `first`."""
        document = np.arange(first, first + rows.num_rows)
        for stored, begin, mine in self._groups(document, document):
            of_stored = rows.slice(int(mine[0]) - first, len(mine))
            _check_rows(stored, int(mine[0]) - begin, int(mine[0]), of_stored, problems)

    def check_tokens(self, w: Windows, problems: Problems) -> None:
        """Compares the tokens of every segment with those of its document, batch by batch.

        And whether they are supervised, if the set has supervised spans.
        """
        tokens, inside = w.tokens.reshape(-1), w.inside()
        for stored, begin, all_segments in self._groups(w.doc, np.arange(len(w.doc))):
            room = stored.length[w.doc[all_segments] - begin] - w.length[all_segments]
            segment = all_segments[w.offset[all_segments] <= room]
            length = w.length[segment]
            start = stored.offsets[w.doc[segment] - begin] + w.offset[segment]
            in_windows = ranges(w.end[segment] - length, length)
            in_store = ranges(start, length)
            wrong = tokens[in_windows] != stored.values[in_store]
            if wrong.any():
                _report(w, segment, wrong, "another token", problems)
            if inside is not None and stored.spans is not None:
                wrong = inside[in_windows] != stored.spans.have(in_store)
                if wrong.any():
                    _report(w, segment, wrong, "other supervised spans from token", problems)


def _check_rows(
    stored: _Stored, at: int, first: int, rows: pa.RecordBatch, problems: Problems
) -> None:
    """Compares documents from `first` on with the rows of a batch from `at` on."""
    here = slice(at, at + rows.num_rows)
    entry, row = stored.entry, stored.row + at
    other_hash = hashes(rows["content_hash"]) != stored.content_hash[here]
    other_id = pc.not_equal(rows["id"], stored.ids[here])
    differ = {
        "id": other_id.to_numpy(zero_copy_only=False),
        "part": numbered(rows["part"], {entry["part"]: 0}) != 0,
        "source": numbered(rows["source"], {entry["source"]: 0}) != 0,
        "row": rows["row"].to_numpy() != np.arange(row, row + rows.num_rows),
        "n_tokens": rows["n_tokens"].to_numpy() != stored.length[here],
        "content_hash": other_hash.any(axis=1),
    }
    for column, wrong in differ.items():
        problems.each(
            "store",
            wrong,
            lambda i, column=column: f"document {first + i}: {column}",
            lambda i, column=column: rows[column][i].as_py(),
            lambda i: f"as in row {row + i} of part {entry['part']}",
        )


def _report(w: Windows, segment: Array, wrong: Array, what: str, problems: Problems) -> None:
    """Adds problems; `wrong` has the positions of these segments, end to end."""
    before = np.cumsum(w.length[segment], dtype=np.int64) - w.length[segment]
    problems.each(
        "store",
        np.logical_or.reduceat(wrong, before),
        lambda k: w.where_segment(segment[k]),
        lambda k: f"{what} {w.offset[segment[k]] + wrong[before[k] :].argmax()}",
        "the store's",
    )


def _open_part(folder: Folder, entry: Any, spans: bool, problems: Problems) -> list[_Stored]:
    """A part's record batches; none if the part cannot be used."""
    part, index = (folder.checked(entry[key], "store") for key in ("file", "index"))
    if part is None or index is None:
        return []
    try:
        return _read_part(entry, pa.ipc.open_file(part), pa.ipc.open_file(index), spans)
    except UNREADABLE as error:
        where = f"part {entry['part']}"
        problems.add("store", where, f"it cannot be used: {cause(error)}")
        return []


def _read_part(entry: Any, part: Any, index: Any, spans: bool) -> list[_Stored]:
    """A part's record batches, together with the index of their rows.

    Raises:
        pa.ArrowInvalid: part or index is not as the format says.
    """
    _check_schemas(entry, part, index, spans)
    length, content_hash = _read_index(entry, index)
    supervised = _read_spans(index, length) if spans else None
    batches: list[_Stored] = []
    row = 0
    for batch in part.read_all().to_batches():
        batch.validate(full=True)
        tokens = batch["tokens"]
        if tokens.null_count or tokens.values.null_count:
            raise pa.ArrowInvalid("null tokens")
        here = slice(row, row + batch.num_rows)
        offsets = tokens.offsets.to_numpy()
        stored = _Stored(
            entry=entry,
            row=row,
            ids=batch["id"],
            offsets=offsets,
            values=tokens.values.to_numpy(),
            length=length[here],
            content_hash=content_hash[here],
            spans=None if supervised is None else _placed(supervised, row, offsets),
        )
        if not np.array_equal(np.diff(stored.offsets), stored.length):
            raise pa.ArrowInvalid("its index has other lengths than the part")
        batches.append(stored)
        row += batch.num_rows
    total = int(length.sum(dtype=np.int64))
    if (row, total) != (entry["documents"], entry["tokens"]):
        raise pa.ArrowInvalid(f"{plural(row, 'document')} with {plural(total, 'token')}")
    return batches


def _read_spans(index: Any, length: Array) -> tuple[Array, Array, Array]:
    """The document, start and stop of every supervised span of a part."""
    lists = index.read_all()[SUPERVISED].combine_chunks()
    lists.validate(full=True)
    if nulls(lists):
        raise pa.ArrowInvalid("its index has supervised spans that are null")
    counts = np.diff(lists.offsets.to_numpy())
    document = np.repeat(np.arange(len(counts)), counts)
    spans = lists.flatten()
    start, stop = (spans.field(name).to_numpy() for name in ("start", "stop"))
    is_later = np.diff(document, prepend=-1) == 0
    before = np.concatenate(([0], stop))[:-1]
    wrong = (start < 0) | (start >= stop) | (stop > length[document])
    if (counts < 1).any() or wrong.any() or (is_later & (start <= before)).any():
        raise pa.ArrowInvalid(
            "its index has supervised spans that are none: each document has one or more, apart "
            "from each other and in rising order, none of them empty or beyond its end"
        )
    return document, start, stop


def _placed(spans: tuple[Array, Array, Array], row: int, offsets: Array) -> _StoredSpans:
    """The spans of the documents from `row` on, which begin at these offsets."""
    document, start, stop = spans
    first, last = np.searchsorted(document, (row, row + len(offsets) - 1))
    begin = offsets[document[first:last] - row]
    return _StoredSpans(start=begin + start[first:last], stop=begin + stop[first:last])


def _check_schemas(entry: Any, part: Any, index: Any, spans: bool) -> None:
    for reader, schema in ((part, part_schema()), (index, index_schema(spans))):
        if not reader.schema.remove_metadata().equals(schema, check_metadata=True):
            found, expected = differing_fields(reader.schema, schema)
            raise pa.ArrowInvalid(f"{found} instead of {expected}")
    if (part.schema.metadata or {}).get(b"source") != entry["source"].encode():
        raise pa.ArrowInvalid(f"its metadata does not have the source {entry['source']}")


def _read_index(entry: Any, index: Any) -> tuple[Array, Array]:
    """Lengths and content hashes of all rows of a part."""
    rows = index.read_all()
    rows.validate(full=True)
    if not np.array_equal(rows["row"].to_numpy(), np.arange(entry["documents"])):
        raise pa.ArrowInvalid("its index does not have the rows 0, 1, ... of the part")
    length = rows["length"].combine_chunks().to_numpy()
    return length, hashes(rows["content_hash"].combine_chunks())
