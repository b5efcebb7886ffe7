"""Re-derives everything a shard set claims, from its bytes.

Written against the format (README.md of the schemas) and not by calling what wrote the files: the
contexts, codes, histograms and weights below are computed a second time, in another way. So a
mistake in the writing code shows up here instead of agreeing with itself.

    manifest ── documents table ──┐
       │                          ├── what each document should have
       └── shards, a record batch ┴── what it has ── counted ── compared with the manifest
           at a time

Memory: about 70 bytes a stored document, and 20 a piece of a cut document (at most two a window);
tokens are memory-mapped and looked at one record batch at a time. Files of a remote filesystem go
through an unnamed temporary file, one after the other.
"""

import hashlib
import math
import mmap
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from ..schemas import shard, store
from ..schemas.errors import IncompleteError
from ..schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE, Manifest, parse

__all__ = ["CHECKS", "Check", "Finding", "Report", "verify"]

CHECKS = {
    "files": "every file is there, with its size and checksum, and no other",
    "schema": "columns and types, nothing null, record batches, uncompressed, names",
    "segments": "segments fill their windows, padding is at the end",
    "codes": "every position's code is that of its effective context",
    "weights": "the weight table follows from the histogram, the dictionaries from the table",
    "histogram": "the manifest's counts, per split and source, are those of the tokens",
    "tokens": "every id is in the vocabulary, every document ends with EOS",
    "coverage": "every document's tokens are there once per copy",
    "documents": "the documents table agrees with itself and the manifest",
    "dedup": "what was dropped as a duplicate is one, and nothing else is",
    "mixing": "every source has the copies asked for",
    "split": "no content is on both sides of the split",
    "packing": "documents are cut only where the packing may",
    "store": "tokens, ids, lengths and hashes are those of the token store",
}
"""What is checked, by the name a finding has."""

KEPT = 20
OPEN_PARTS = 64
TOLERANCE = 1e-6  # relative; a float32 has 24 bits
DOCUMENTS_PER_BATCH = 1 << 16
REASONS = ("duplicate", "mixing")
SEGMENT_COLUMNS = ("seq_lengths", "doc_index", "doc_offset")
UNREADABLE = (pa.ArrowException, OSError, UnicodeError)

Array = NDArray[Any]
Rule = Callable[[Array, Callable[[int], str], str], None]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is not as it should be. `check` is a key of CHECKS."""

    check: str
    where: str
    found: str
    expected: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what it looked at or why it was left out, in words, and how many problems."""

    name: str
    checked: str
    problems: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What verification found.

    Attributes:
        checks: one for each of CHECKS, in that order.
        findings: at most KEPT of each check; `Check.problems` counts all.
        windows: windows read, over both splits.
        tokens: tokens read, without padding.
        documents: rows of the documents table.
        bytes: of all files read, those of the store included.
    """

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    windows: int
    tokens: int
    documents: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not any(check.problems for check in self.checks)


def verify(
    shards: str, store: str | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Checks a shard set, and against its token store where one is given.

    Args:
        shards: path or fsspec URL of the shard set.
        store: path or fsspec URL of the token store.
        progress: called with the bytes done and the bytes in all, after each file.

    Raises:
        IncompleteError: there is no manifest.
        FormatError: the manifest is not JSON, of another format, or not as its schema says.
    """
    problems = _Problems()
    meter = _Meter(progress)
    folder = _Folder(shards, problems, meter)
    manifest = parse(folder.manifest(), f"{folder.root}/{MANIFEST}", SHARD_SET)
    meter.total += sum(entry["bytes"] for entry in _named(manifest))
    against = _open_store(store, manifest, problems, meter) if store is not None else None
    if store is None:
        problems.leave_out("store", "no store given")
    _check_folder(folder, manifest, problems)
    documents = _read_documents(folder, manifest, against, problems)
    if documents is not None:
        _check_documents(documents, manifest, problems)
        _check_content(documents, manifest["settings"], problems)
        _check_mixing(documents, manifest, problems)
    reader = _Shards(folder, manifest, documents, against, problems)
    counts = {split: reader.read(split) for split in shard.SPLITS}
    reader.finish()
    _check_counts(counts, manifest, documents, reader.complete, problems)
    _check_weights(manifest, problems)
    tokens = sum(int(count.tokens.sum()) for count in counts.values())
    problems.note("files", f"{meter.files:,} files, {meter.done:,} bytes")
    return Report(
        checks=problems.checks(),
        findings=tuple(problems.findings),
        windows=sum(count.windows for count in counts.values()),
        tokens=tokens,
        documents=0 if documents is None else len(documents.n_tokens),
        bytes=meter.done,
    )


# Contexts, codes and weights once more


def contexts(lengths: Array) -> NDArray[np.int32]:
    """Effective context of each position of segments laid end to end, shape [sum(lengths)]."""
    starts = np.cumsum(lengths, dtype=np.int32) - lengths
    positions = np.arange(int(lengths.sum()), dtype=np.int32)
    return positions - np.repeat(starts.astype(np.int32), lengths)


def codes_of_contexts(window: int) -> NDArray[np.uint8]:
    """The dictionary code of each context 0..window-1.

    frexp gives a context its bit length, exactly; bucket b >= 1 has the contexts of b + 3 bits.
    """
    bits = np.frexp(np.arange(window, dtype=np.float64))[1]
    codes = np.maximum(bits - 3, 0) + 1
    codes[0] = shard.UNSUPERVISED
    return codes.astype(np.uint8)


class _Row(TypedDict):
    bucket: int
    low: int
    high: int
    targets: int
    in_tail: bool
    share: float | None
    inverse_frequency: float | None
    weight: float


def weight_rows(counts: list[int], settings: Manifest) -> list[_Row]:
    """The weight table that a train histogram and the settings give."""
    low = [0 if b == 0 else 2 ** (b + 2) for b in range(len(counts))]
    tail = [b for b, count in enumerate(counts) if low[b] >= settings["tau"] and count]
    total = sum(counts[b] for b in tail)
    share = np.array([counts[b] / total for b in tail])
    with np.errstate(all="ignore"):
        inverse = (share + settings["epsilon"]) ** -float(settings["gamma"])
        extra = _extra(share, inverse, settings["alpha"], settings["max_weight"])
    at = {b: i for i, b in enumerate(tail)}
    return [
        {
            "bucket": b,
            "low": low[b],
            "high": min(2 ** (b + 3), settings["window"]) - 1,
            "targets": count,
            "in_tail": b in at,
            "share": float(share[at[b]]) if b in at else None,
            "inverse_frequency": float(inverse[at[b]]) if b in at else None,
            "weight": 1.0 + float(extra[at[b]]) if b in at else 1.0,
        }
        for b, count in enumerate(counts)
    ]


def _extra(share: Array, inverse: Array, alpha: float, max_weight: float | None) -> Array:
    """w_b - 1 over the tail. Under a ceiling by bisection: the sum rises with lambda."""
    if not len(share):
        return share
    if max_weight is None:
        return alpha * inverse / (share * inverse).sum()
    low, high = 0.0, float((max_weight - 1) / inverse.min())
    for _ in range(200):
        middle = (low + high) / 2
        spent = (share * np.minimum(max_weight - 1, middle * inverse)).sum()
        low, high = (middle, high) if spent < alpha else (low, middle)
    return np.minimum(max_weight - 1, high * inverse)


# Findings, files


class _Problems:
    """Counts every problem and keeps the first few of each check."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._counts: Counter[str] = Counter()
        self._checked = dict.fromkeys(CHECKS, "")

    def add(self, check: str, where: str, found: object, expected: object = None) -> None:
        def describe(_: int) -> tuple[str, object, object]:
            return where, found, expected

        self.each(check, (0,), describe)

    def each(
        self,
        check: str,
        at: "Array | tuple[int, ...]",
        describe: Callable[[int], tuple[str, object, object]],
    ) -> None:
        """A problem at each of `at`; only those that are kept are put into words."""
        for i in at[: max(0, KEPT - self._counts[check])]:
            where, found, expected = describe(int(i))
            self.findings.append(
                Finding(
                    check=check,
                    where=where,
                    found=str(found),
                    expected=None if expected is None else str(expected),
                )
            )
        self._counts[check] += len(at)

    def compare(self, check: str, where: str, found: object, expected: object) -> None:
        if found != expected:
            self.add(check, where, found, expected)

    def note(self, check: str, checked: str) -> None:
        self._checked[check] = self._checked[check] or checked

    def leave_out(self, check: str, why: str) -> None:
        self._checked[check] = f"left out: {why}"

    def checks(self) -> tuple[Check, ...]:
        return tuple(
            Check(name=name, checked=checked, problems=self._counts[name])
            for name, checked in self._checked.items()
        )


class _Meter:
    def __init__(self, progress: Callable[[int, int], None] | None) -> None:
        self.total = self.done = self.files = 0
        self._progress = progress

    def advance(self, size: int) -> None:
        self.files += 1
        self.done += size
        self.total = max(self.total, self.done)
        if self._progress is not None:
            self._progress(self.done, self.total)


class _Folder:
    """A store or shard set, on any filesystem."""

    def __init__(self, url: str, problems: _Problems, meter: _Meter) -> None:
        self._fs, self.root = url_to_fs(url)
        self.root = self.root.rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)
        self._problems = problems
        self._meter = meter

    def manifest(self) -> bytes:
        try:
            return self._fs.cat_file(f"{self.root}/{MANIFEST}")
        except FileNotFoundError:
            raise IncompleteError(
                "there is no manifest, so what is here is not finished",
                expected=f"a file {MANIFEST}, which is written last",
                where=self.root,
                fix="run the job again; it goes on where it stopped",
            ) from None

    def listing(self, below: str) -> list[str]:
        """Files below a folder, without temporaries and other hidden ones, relative to the root."""
        found = self._fs.find(f"{self.root}/{below}")
        paths = sorted(str(path)[len(self.root) + 1 :] for path in found)
        return [path for path in paths if not any(p.startswith(".") for p in path.split("/"))]

    def buffer(self, path: str) -> pa.Buffer:
        """A file's bytes, memory-mapped."""
        if self._local:
            with open(f"{self.root}/{path}", "rb") as file:  # noqa: PTH123
                return _mapped(file.fileno())
        with self._fs.open(f"{self.root}/{path}", "rb") as remote, tempfile.TemporaryFile() as copy:
            while chunk := remote.read(1 << 24):
                copy.write(chunk)
            copy.flush()
            return _mapped(copy.fileno())

    def checked(self, entry: Any, check: str = "files") -> pa.Buffer | None:
        """A file that the manifest names; None where it is not the one that was written.

        What is damaged is not looked into: its findings would mislead.
        """
        path: str = entry["path"]
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            self._problems.add(check, MANIFEST, f"the path {path}", "a path inside the folder")
            return None
        try:
            data = self.buffer(path)
        except FileNotFoundError:
            self._problems.add(check, path, "the file is missing", f"{entry['bytes']:,} bytes")
            return None
        except OSError as error:
            self._problems.add(check, path, f"the file cannot be read: {error}")
            return None
        self._meter.advance(data.size)
        if data.size != entry["bytes"]:
            self._problems.add(check, path, f"{data.size:,} bytes", f"{entry['bytes']:,} bytes")
            return None
        digest = xxhash.xxh3_128_hexdigest(memoryview(data))
        if digest != entry["xxh3_128"]:
            self._problems.add(check, f"{path}: xxh3-128", digest, entry["xxh3_128"])
            return None
        return data

    def check_tokenizer(self, sha256: str, check: str) -> None:
        path = "tokenizer.json"
        try:
            found = hashlib.sha256(memoryview(self.buffer(path))).hexdigest()
        except OSError as error:
            self._problems.add(check, path, f"the file cannot be read: {error}", "the tokenizer")
        else:
            self._problems.compare(check, f"{path}: sha256", found, sha256)


def _mapped(descriptor: int) -> pa.Buffer:
    try:
        return pa.py_buffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    except ValueError:  # an empty file cannot be mapped
        return pa.py_buffer(b"")


def _named(manifest: Manifest) -> Iterator[Any]:
    for split in shard.SPLITS:
        yield from manifest["shards"][split]
    yield from manifest["documents"]


def _check_folder(folder: _Folder, manifest: Manifest, problems: _Problems) -> None:
    named = {entry["path"] for entry in _named(manifest)}
    for below in (*shard.SPLITS, "documents"):
        for path in folder.listing(below):
            if path not in named:
                problems.add("files", path, "a file that the manifest does not name")
    folder.check_tokenizer(manifest["tokenizer"]["sha256"], "files")


# The documents table


@dataclass(kw_only=True)
class _Documents:
    """The documents table, a value a document; names are numbered.

    `source` counts the manifest's sources (then unknown ones), `split` is a position in SPLITS
    and `reason` in REASONS, -1 where it is null or unknown.
    """

    sources: dict[str, int]
    parts: dict[str, int] = field(default_factory=dict)
    doc_index: Array
    n_tokens: Array
    copies: Array
    row: Array
    part: Array
    source: Array
    split: Array
    reason: Array
    dropped: Array
    content_hash: Array  # uint64[n, 2]; only equality means something

    @classmethod
    def empty(cls, size: int, sources: dict[str, int]) -> "_Documents":
        return cls(
            sources=sources,
            doc_index=np.empty(size, np.int64),
            n_tokens=np.empty(size, np.int32),
            copies=np.empty(size, np.int32),
            row=np.empty(size, np.int32),
            part=np.empty(size, np.int32),
            source=np.empty(size, np.int32),
            split=np.empty(size, np.int8),
            reason=np.empty(size, np.int8),
            dropped=np.empty(size, np.bool_),
            content_hash=np.empty((size, 2), np.uint64),
        )

    def fill(self, first: int, batch: pa.RecordBatch) -> None:
        here = slice(first, first + batch.num_rows)
        for name in ("doc_index", "n_tokens", "copies", "row"):
            getattr(self, name)[here] = batch.column(name).to_numpy()
        self.content_hash[here] = _hashes(batch.column("content_hash"))
        self.part[here] = _numbered(batch.column("part"), self.parts, grow=True)
        self.source[here] = _numbered(batch.column("source"), self.sources, grow=True)
        self.split[here] = _numbered(batch.column("split"), _positions(shard.SPLITS))
        self.reason[here] = _numbered(batch.column("drop_reason"), _positions(REASONS))
        self.dropped[here] = batch.column("drop_reason").is_valid().to_numpy(zero_copy_only=False)


def _positions(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _numbered(column: Any, numbers: dict[str, int], *, grow: bool = False) -> Array:
    """A dictionary column's values as numbers: unknown ones get a new one, or -1, as null does."""
    values: list[str] = column.dictionary.to_pylist()
    if grow:
        for value in values:
            numbers.setdefault(value, len(numbers))
    of_code = np.array([*(numbers.get(value, -1) for value in values), -1], np.int32)
    return of_code[column.indices.fill_null(len(values)).to_numpy()]


def _hashes(column: Any) -> Array:
    data = np.frombuffer(column.buffers()[1], np.uint8)
    mine = data[16 * column.offset : 16 * (column.offset + len(column))]
    return mine.reshape(-1, 16).view(np.uint64)


def _read_documents(
    folder: _Folder, manifest: Manifest, against: "_Store | None", problems: _Problems
) -> _Documents | None:
    """The documents table, or None where a file of it cannot be read."""
    files = [_open_documents(folder, entry, problems) for entry in manifest["documents"]]
    paths = [entry["path"] for entry in manifest["documents"]]
    if paths != sorted(set(paths)):
        problems.add("documents", MANIFEST, f"files {paths}", "each once, in the order of names")
    readable = [file for file in files if file is not None]
    size = sum(file.metadata.num_rows for file in readable)
    problems.note("documents", f"{size:,} documents")
    documents = _Documents.empty(size, _positions(s["name"] for s in manifest["sources"]))
    first = 0
    whole = len(readable) == len(files)
    for path, file in zip(paths, readable if whole else [], strict=whole):
        try:
            first = _read_rows(file, documents, first, against)
        except UNREADABLE as error:
            problems.add("documents", path, f"the file cannot be read: {_line(error)}")
            whole = False
            break
    misplaced = np.flatnonzero(documents.doc_index[:first] != np.arange(first))
    problems.each(
        "documents",
        misplaced,
        lambda i: (f"row {i}", f"doc_index {documents.doc_index[i]}", f"{i}, over all files"),
    )
    if not whole or len(misplaced):
        for check in ("coverage", "dedup", "mixing", "split", "packing"):
            problems.leave_out(check, "the documents table cannot be used")
        return None
    if against is not None:
        against.check_size(size)
    return documents


def _read_rows(file: Any, documents: _Documents, first: int, against: "_Store | None") -> int:
    """Reads a file whose first row is document `first`; returns what follows its last."""
    end = first + file.metadata.num_rows
    for batch in file.iter_batches(DOCUMENTS_PER_BATCH):
        batch.validate(full=True)
        nulls = sum(batch.column(i).null_count for i in range(batch.num_columns - 1))
        if nulls:
            raise pa.ArrowInvalid(f"{nulls} values are null")
        if first + batch.num_rows > end:
            raise pa.ArrowInvalid("it has more rows than it says")
        documents.fill(first, batch)
        if against is not None:
            against.check_documents(first, batch)
        first += batch.num_rows
    if first < end:
        raise pa.ArrowInvalid("it has fewer rows than it says")
    return end


def _open_documents(folder: _Folder, entry: Any, problems: _Problems) -> Any:
    data = folder.checked(entry)
    if data is None:
        return None
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        found, expected = file.schema_arrow, shard.documents_schema()
    except UNREADABLE as error:
        problems.add("documents", entry["path"], f"the file cannot be read: {_line(error)}")
        return None
    if file.metadata.num_rows != entry["rows"]:
        where = f"{entry['path']}: rows"
        problems.add("documents", where, file.metadata.num_rows, entry["rows"])
        return None
    if not found.equals(expected):
        problems.add("documents", entry["path"], *_schemas(found, expected))
        return None
    return file


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__


def _schemas(found: pa.Schema, expected: pa.Schema) -> tuple[str, str]:
    """The fields in which two schemas differ, in words."""
    texts = [[str(f) for f in schema] for schema in (found, expected)]
    differ = [[t for t in texts[i] if t not in texts[1 - i]] for i in (0, 1)]
    if not any(differ):
        return f"columns {texts[0]}, metadata {found.metadata}", f"columns {texts[1]}, no metadata"
    return f"columns {differ[0]}", f"columns {differ[1]}"


def _check_documents(documents: _Documents, manifest: Manifest, problems: _Problems) -> None:
    """The table's own rules, then its sums against the manifest."""
    d = documents

    def rule(broken: Array, found: Callable[[int], str], expected: str) -> None:
        at = np.flatnonzero(broken)
        problems.each("documents", at, lambda i: (f"document {i}", found(i), expected))

    rule(d.n_tokens < 1, lambda i: f"{d.n_tokens[i]} tokens", "at least 1")
    rule(d.copies < 0, lambda i: f"{d.copies[i]} copies", "at least 0")
    rule(d.split < 0, lambda i: "another split", " or ".join(shard.SPLITS))
    rule(
        d.dropped != (d.copies == 0),
        lambda i: f"{d.copies[i]} copies, {'a' if d.dropped[i] else 'no'} drop_reason",
        "a drop_reason where copies is 0, and nowhere else",
    )
    rule(d.dropped & (d.reason < 0), lambda i: "another drop_reason", " or ".join(REASONS))
    known = len(manifest["sources"])
    names = list(d.sources)
    rule(d.source >= known, lambda i: f"source {names[d.source[i]]}", "a source of the manifest")
    _check_numbering(d, rule)
    if list(d.parts) != sorted(d.parts):
        problems.add("documents", "documents", "parts out of order", "parts in order of names")
    for number, source in enumerate(manifest["sources"]):
        _check_source(d, number, source, problems)


def _check_numbering(d: _Documents, rule: Rule) -> None:
    """A part's documents are together, rows 0, 1, ..., all of one source."""
    same_part = np.zeros(len(d.part), np.bool_)
    same_part[1:] = d.part[1:] == d.part[:-1]
    row = np.zeros(len(d.row), np.int64)
    row[1:] = d.row[:-1] + np.int64(1)
    parts = list(d.parts)
    rule(
        d.row != np.where(same_part, row, 0),
        lambda i: f"row {d.row[i]} of part {parts[d.part[i]]}",
        "rows 0, 1, ... of each part",
    )
    highest = np.maximum.accumulate(d.part) if len(d.part) else d.part
    rule(
        d.part < highest,
        lambda i: f"part {parts[d.part[i]]} once more",
        "all documents of a part together",
    )
    other = np.zeros(len(d.part), np.bool_)
    other[1:] = same_part[1:] & (d.source[1:] != d.source[:-1])
    rule(other, lambda i: f"two sources in part {parts[d.part[i]]}", "one source a part")


def _check_source(d: _Documents, number: int, source: Any, problems: _Problems) -> None:
    name = source["name"]
    mine = d.source == number
    n_tokens = d.n_tokens[mine].astype(np.int64)
    copies = d.copies[mine].astype(np.int64)
    split, reason = d.split[mine], d.reason[mine]
    claims: list[tuple[str, object, object]] = [
        ("read.documents", source["read"]["documents"], len(n_tokens)),
        ("read.tokens", source["read"]["tokens"], int(n_tokens.sum())),
        (
            "dropped",
            {key: count for key, count in source["dropped"].items() if count},
            {key: int(c) for i, key in enumerate(REASONS) if (c := np.count_nonzero(reason == i))},
        ),
    ]
    for i, side in enumerate(shard.SPLITS):
        of = source["splits"][side]
        there = np.where(split == i, copies, 0)
        claims.append((f"splits.{side}.documents", of["documents"], int(there.sum())))
        claims.append((f"splits.{side}.tokens", of["tokens"], int((there * n_tokens).sum())))
    for key, found, expected in claims:
        problems.compare("documents", f"{MANIFEST}: source {name}, {key}", found, expected)


def _check_content(d: _Documents, settings: Manifest, problems: _Problems) -> None:
    """What follows from equal content hashes: duplicates and the split."""
    order = np.lexsort((d.content_hash[:, 0], d.content_hash[:, 1]))
    ordered = d.content_hash[order]
    repeats = np.zeros(len(order), np.bool_)
    repeats[1:] = (ordered[1:] == ordered[:-1]).all(axis=1)
    across = np.flatnonzero(repeats[1:] & (d.split[order][1:] != d.split[order][:-1])) + 1
    problems.each(
        "split",
        across,
        lambda i: (
            f"documents {order[i - 1]} and {order[i]}",
            "equal content hashes, one in train and one in validation",
            "equal content on one side",
        ),
    )
    many = np.flatnonzero((d.split == shard.SPLITS.index(shard.VALIDATION)) & (d.copies > 1))
    problems.each(
        "split",
        many,
        lambda i: (f"document {i}", f"{d.copies[i]} copies in validation", "at most 1"),
    )
    problems.note("split", f"{len(order):,} documents")
    # lexsort is stable: of equal hashes the first in the store comes first
    repeated = np.zeros(len(order), np.bool_)
    repeated[order] = repeats
    duplicate = repeated & (settings["dedup"] == "exact")
    wrong = np.flatnonzero(duplicate != (d.reason == REASONS.index("duplicate")))
    problems.each(
        "dedup",
        wrong,
        lambda i: (
            f"document {i}",
            "not dropped as a duplicate" if duplicate[i] else "dropped as a duplicate",
            f"dedup is {settings['dedup']}; {'an' if repeated[i] else 'no'} earlier document has "
            "its content",
        ),
    )
    problems.note("dedup", f"{len(order):,} documents, {np.count_nonzero(duplicate):,} duplicates")


def _check_mixing(d: _Documents, manifest: Manifest, problems: _Problems) -> None:
    """Copies are floor(e) or one more, and their tokens e times the source's, to one document."""
    validation, mixing = shard.SPLITS.index(shard.VALIDATION), REASONS.index("mixing")
    problems.each(
        "mixing",
        np.flatnonzero((d.split == validation) & (d.reason == mixing)),
        lambda i: (f"document {i}", "dropped from validation by mixing", "mixing is for train"),
    )
    eligible = (d.split != validation) & (d.reason != REASONS.index("duplicate"))
    for number, source in enumerate(manifest["sources"]):
        name, e = f"source {source['name']}", source["copies"]
        mine = np.flatnonzero(eligible & (d.source == number))
        if not len(mine):
            continue
        n_tokens = d.n_tokens[mine].astype(np.int64)
        total = int(n_tokens.sum())
        asked = _asked_copies(source["name"], total, manifest["settings"])
        if asked is not None and not math.isclose(e, asked, rel_tol=TOLERANCE):
            problems.add("mixing", f"{MANIFEST}: {name}", f"copies {e}", asked)
        least, most = math.floor(e), math.ceil(e)
        problems.each(
            "mixing",
            mine[(d.copies[mine] < least) | (d.copies[mine] > most)],
            lambda i, least=least, most=most: (
                f"document {i}",
                f"{d.copies[i]} copies",
                f"{least} or {most}",
            ),
        )
        found = int((n_tokens * d.copies[mine]).sum())
        if abs(found - e * total) > n_tokens.max() + TOLERANCE * e * total:
            problems.add("mixing", name, f"{found:,} tokens", f"{e * total:,.0f}, to one document")
    problems.note("mixing", f"{len(manifest['sources'])} sources")


def _asked_copies(source: str, tokens: int, settings: Manifest) -> float | None:
    """The copies that the settings ask of a source; None where a budget scales its epochs."""
    asked, budget = settings["mixing"].get(source, {"epochs": 1}), settings["token_budget"]
    if budget is None:
        return asked.get("epochs")
    return asked["share"] * budget / tokens if "share" in asked else None


# Shards


@dataclass(kw_only=True)
class _Counts:
    """What the shards of a split have. Per-source arrays end with a slot for unknown sources."""

    documents: Array  # [sources + 1]
    tokens: Array  # [sources + 1]
    codes: Array  # [sources + 1, codes]
    windows: int = 0
    padding: int = 0
    segments: int = 0
    cut_documents: int = 0


@dataclass(kw_only=True)
class _Windows:
    """Windows of one record batch, their segments laid end to end."""

    number: Array  # [windows], in the shard
    tokens: Array  # [windows, L]
    codes: Array  # [windows, L]
    counts: Array  # [windows], segments of each
    length: Array  # [segments]
    doc: Array  # [segments]
    offset: Array  # [segments]

    def keep(self, good: Array) -> "_Windows":
        segments = np.repeat(good, self.counts)
        return _Windows(
            number=self.number[good],
            tokens=self.tokens[good],
            codes=self.codes[good],
            counts=self.counts[good],
            length=self.length[segments],
            doc=self.doc[segments],
            offset=self.offset[segments],
        )


class _Shards:
    """Reads the shards, checks each window, and gathers what only the whole set can tell.

    Windows whose segments make no sense are reported and left out of everything else; then the set
    is not `complete`, and what needs all of it is left out too.
    """

    def __init__(
        self,
        folder: _Folder,
        manifest: Manifest,
        documents: _Documents | None,
        against: "_Store | None",
        problems: _Problems,
    ) -> None:
        self.complete = True
        self._folder, self._manifest, self._problems = folder, manifest, problems
        self._documents, self._against = documents, against
        self._window: int = manifest["settings"]["window"]
        self._code = codes_of_contexts(self._window)
        self._n_codes = int(self._code.max()) + 1
        self._whole = np.zeros(0 if documents is None else len(documents.n_tokens), np.int32)
        self._pieces: list[tuple[Array, Array, Array]] = []
        self._batches = 0

    def read(self, split: str) -> _Counts:
        slots = len(self._manifest["sources"]) + 1
        counts = _Counts(
            documents=np.zeros(slots, np.int64),
            tokens=np.zeros(slots, np.int64),
            codes=np.zeros((slots, self._n_codes), np.int64),
        )
        entries = self._manifest["shards"][split]
        for i, entry in enumerate(entries):
            expected = shard.shard_name(split, i, len(entries))
            if entry["path"] != expected:
                self._problems.add("schema", MANIFEST, f"a shard {entry['path']}", expected)
            data = self._folder.checked(entry)
            try:
                if data is None or not self._read_shard(entry, split, data, counts):
                    self.complete = False
            except UNREADABLE as error:
                self.complete = False
                found = f"the file cannot be read: {_line(error)}"
                self._problems.add("schema", entry["path"], found)
        return counts

    def _read_shard(self, entry: Any, split: str, data: pa.Buffer, counts: _Counts) -> bool:
        """Whether all of its record batches could be read."""
        path = entry["path"]
        reader = pa.ipc.open_file(data)
        expected = shard.shard_schema(self._window)
        if not reader.schema.equals(expected, check_metadata=True):
            self._problems.add("schema", path, *_schemas(reader.schema, expected))
            return False
        first, rows, whole = 0, shard.rows_per_batch(self._window), True
        for i in range(reader.num_record_batches):
            batch = reader.get_batch(i)
            self._batches += 1
            last = i == reader.num_record_batches - 1
            if not (1 <= batch.num_rows <= rows if last else batch.num_rows == rows):
                self._problems.add(
                    "schema", f"{path}, record batch {i}", f"{batch.num_rows} windows", rows
                )
            if not self._well_formed(batch, data, f"{path}, record batch {i}"):
                whole = False
            elif batch.num_rows:
                self._check_dictionary(batch, split, path)
                self._check_windows(batch, first, split, path, counts)
            first += batch.num_rows
        self._problems.compare("schema", f"{path}: windows", first, entry["windows"])
        counts.windows += first
        return whole

    def _well_formed(self, batch: pa.RecordBatch, data: pa.Buffer, where: str) -> bool:
        try:
            batch.validate(full=True)
        except UNREADABLE as error:
            self._problems.add("schema", where, f"it is not valid: {_line(error)}")
            return False
        nulls = sum(_nulls(column) for column in batch.columns)
        if nulls:
            self._problems.add("schema", where, f"{nulls} values are null", "none")
            return False
        # Only uncompressed buffers are taken from the file as they are.
        end = data.address + data.size
        buffers = [b for column in batch.columns for b in column.buffers() if b and b.size]
        if any(not data.address <= buffer.address < end for buffer in buffers):
            self._problems.add("schema", where, "it is compressed", "uncompressed")
        return True

    def _check_dictionary(self, batch: pa.RecordBatch, split: str, path: str) -> None:
        table = [row["weight"] for row in self._manifest["weights"]["table"]]
        weights = table if split == shard.TRAIN else [1.0] * (self._n_codes - 1)
        expected = np.array([0.0, *weights], np.float32)
        found = _column(batch, "loss_weight").flatten().dictionary.to_numpy(zero_copy_only=False)
        if not np.array_equal(found, expected):
            self._problems.add("weights", f"{path}: dictionary", found.tolist(), expected.tolist())

    def _check_windows(
        self, batch: pa.RecordBatch, first: int, split: str, path: str, counts: _Counts
    ) -> None:
        all_windows = self._windows(batch, first, path)
        good = self._good(all_windows, path)
        windows = all_windows if good.all() else all_windows.keep(good)
        if len(windows.number) < batch.num_rows:
            self.complete = False
        if not len(windows.number):
            return
        self._check_padding(windows, path)
        codes = self._code[contexts(windows.length)]
        is_padding = windows.doc == shard.PADDING
        if is_padding.any():
            codes[np.repeat(is_padding, windows.length)] = shard.UNSUPERVISED
        self._check_codes(windows, codes, path)
        self._count(windows, codes, ~is_padding, counts)
        if self._documents is not None:
            self._check_segments(self._documents, windows, split, path, counts)
        if self._against is not None:
            self._against.check_tokens(windows, path)

    def _windows(self, batch: pa.RecordBatch, first: int, path: str) -> _Windows:
        """The batch as arrays; windows whose segment columns differ in length are left out."""
        columns = [_column(batch, name) for name in SEGMENT_COLUMNS]
        counts = [np.diff(column.offsets.to_numpy()) for column in columns]
        flat = [column.flatten().to_numpy() for column in columns]
        agree = (counts[0] == counts[1]) & (counts[0] == counts[2])
        if not agree.all():
            self._problems.each(
                "segments",
                np.flatnonzero(~agree),
                lambda i: (
                    f"{path}, window {first + i}",
                    f"{' and '.join(str(n[i]) for n in counts)} entries in the segment columns",
                    "as many in each",
                ),
            )
            flat = [f[np.repeat(agree, n)] for f, n in zip(flat, counts, strict=True)]
        weight = _column(batch, "loss_weight").flatten()
        shape = (batch.num_rows, self._window)
        windows = _Windows(
            number=first + np.arange(batch.num_rows),
            tokens=_column(batch, "input_ids").flatten().to_numpy().reshape(shape),
            codes=weight.indices.to_numpy().reshape(shape),
            counts=counts[0],
            length=flat[0],
            doc=flat[1],
            offset=flat[2],
        )
        self._check_ids(windows, path)
        if agree.all():
            return windows
        return _Windows(
            number=windows.number[agree],
            tokens=windows.tokens[agree],
            codes=windows.codes[agree],
            counts=windows.counts[agree],
            length=windows.length,
            doc=windows.doc,
            offset=windows.offset,
        )

    def _check_ids(self, windows: _Windows, path: str) -> None:
        tokens, largest = windows.tokens, self._manifest["tokenizer"]["largest_id"]
        if tokens.min() >= 0 and tokens.max() <= largest:
            return
        at = np.flatnonzero((tokens < 0) | (tokens > largest))
        length = self._window
        self._problems.each(
            "tokens",
            at,
            lambda i: (
                f"{path}, window {windows.number[i // length]}, position {i % length}",
                f"id {tokens.flat[i]}",
                f"0..{largest}",
            ),
        )

    def _good(self, windows: _Windows, path: str) -> Array:
        """Which windows have segments that make sense."""
        w, limit = windows, len(self._whole)
        end = np.cumsum(w.counts, dtype=np.int64)
        window_of = np.repeat(np.arange(len(w.counts)), w.counts)
        is_last = np.zeros(len(w.length), np.bool_)
        is_last[end[w.counts > 0] - 1] = True
        is_padding = w.doc == shard.PADDING
        unknown = (w.doc >= limit) if self._documents is not None else np.zeros_like(is_padding)
        good = np.ones(len(w.counts), np.bool_)

        def rule(broken: Array, found: Callable[[int], str], expected: str) -> None:
            at = np.flatnonzero(broken)
            good[window_of[at]] = False
            self._problems.each(
                "segments",
                at,
                lambda i: (f"{path}, window {w.number[window_of[i]]}", found(i), expected),
            )

        rule(w.length < 1, lambda i: f"a segment of {w.length[i]} tokens", "at least 1")
        rule(is_padding & ~is_last, lambda i: "padding before the end", "one run, at the end")
        rule(
            (w.doc < shard.PADDING) | unknown,
            lambda i: f"doc_index {w.doc[i]}",
            f"-1 for padding, else 0..{limit - 1}" if self._documents else "at least -1",
        )
        rule(
            (w.offset < 0) | (is_padding & (w.offset != 0)),
            lambda i: f"doc_offset {w.offset[i]}",
            "at least 0, and 0 for padding",
        )
        before = np.concatenate(([0], np.cumsum(w.length, dtype=np.int64)))
        filled = before[end] - before[end - w.counts]
        short = np.flatnonzero(filled != self._window)
        good[short] = False
        self._problems.each(
            "segments",
            short,
            lambda i: (
                f"{path}, window {w.number[i]}",
                f"segments of {filled[i]} tokens",
                self._window,
            ),
        )
        return good

    def _check_padding(self, w: _Windows, path: str) -> None:
        last = np.cumsum(w.counts, dtype=np.int64) - 1
        padded = np.flatnonzero(w.doc[last] == shard.PADDING)
        begin = self._window - w.length[last[padded]]
        pad_id = self._manifest["tokenizer"]["pad_id"]
        inside = np.arange(self._window) >= begin[:, None]
        other = (inside & (w.tokens[padded] != pad_id)).any(axis=1)
        self._problems.each(
            "segments",
            padded[other],
            lambda i: (f"{path}, window {w.number[i]}", "padding of other ids", f"only {pad_id}"),
        )

    def _check_codes(self, w: _Windows, codes: Array, path: str) -> None:
        expected = codes.reshape(w.codes.shape)
        if np.array_equal(expected, w.codes):
            return
        wrong = w.codes != expected
        at = np.flatnonzero(wrong.any(axis=1))

        def describe(i: int) -> tuple[str, object, object]:
            j = int(wrong[i].argmax())
            where = f"{path}, window {w.number[i]}, position {j}"
            others = int(wrong[i].sum()) - 1
            found = f"code {w.codes[i, j]}" + (f", and {others} more are wrong" if others else "")
            return where, found, f"code {expected[i, j]}"

        self._problems.each("codes", at, describe)

    def _count(self, w: _Windows, codes: Array, real: Array, counts: _Counts) -> None:
        """Counts the codes of the tokens themselves, of each source."""
        slots = len(counts.tokens)
        source = np.full(len(w.doc), slots - 1, np.int32)
        if self._documents is not None:
            source[real] = np.minimum(self._documents.source[w.doc[real]], slots - 1)
        keys = np.repeat(source * self._n_codes, w.length)
        keys += codes
        counted = np.bincount(keys, minlength=slots * self._n_codes)
        counts.codes += counted.reshape(slots, self._n_codes)
        for slot in np.unique(source[real]).tolist():
            mine = real & (source == slot)
            counts.tokens[slot] += int(w.length[mine].sum(dtype=np.int64))
            counts.documents[slot] += np.count_nonzero(w.offset[mine] == 0)
        counts.padding += int(w.length[~real].sum(dtype=np.int64))
        counts.segments += int(np.count_nonzero(real))

    def _check_segments(
        self, documents: _Documents, w: _Windows, split: str, path: str, counts: _Counts
    ) -> None:
        """What a segment's document says about it; cut documents' pieces are put aside."""
        segment = np.flatnonzero(w.doc != shard.PADDING)
        doc, offset, length = w.doc[segment], w.offset[segment], w.length[segment].astype(np.int64)
        end_in_batch = np.cumsum(w.length, dtype=np.int64)[segment]
        n_tokens = documents.n_tokens[doc]
        whole = length == n_tokens
        whole &= offset == 0
        np.add.at(self._whole, doc[whole], 1)
        piece = ~whole
        self._pieces.append((doc[piece], offset[piece], length[piece].astype(np.int32)))
        counts.cut_documents += int(np.count_nonzero(offset[piece] == 0))

        def where(i: int) -> str:
            number = w.number[(end_in_batch[i] - 1) // self._window]
            return f"{path}, window {number}, document {doc[i]}"

        def rule(check: str, broken: Array, found: Callable[[int], str], expected: object) -> None:
            self._problems.each(
                check, np.flatnonzero(broken), lambda i: (where(i), found(i), expected)
            )

        ends = offset + length == n_tokens
        last_token = w.tokens.reshape(-1)[end_in_batch - 1]
        eos = self._manifest["tokenizer"]["eos_id"]
        rule(
            "tokens",
            ends & (last_token != eos),
            lambda i: f"the document ends with id {last_token[i]}",
            f"EOS, id {eos}",
        )
        rule(
            "split",
            documents.split[doc] != shard.SPLITS.index(split),
            lambda i: f"a document of the other split in {split}",
            "every document in the shards of its split",
        )
        rule(
            "packing",
            ~ends & (end_in_batch % self._window != 0),
            lambda i: f"cut at token {offset[i] + length[i]} of {n_tokens[i]}, inside the window",
            "cuts only at a window's end",
        )
        if self._manifest["settings"]["packing"] == "best_fit":
            rule(
                "packing",
                piece & (n_tokens <= self._window),
                lambda i: f"cut, although its {n_tokens[i]} tokens fit into a window",
                "best_fit cuts only what is longer than a window",
            )

    def finish(self) -> None:
        note = self._problems.note
        shards = sum(len(entries) for entries in self._manifest["shards"].values())
        note("schema", f"{shards:,} shards, {self._batches:,} record batches")
        if self._documents is None:
            return
        if self.complete:
            self._check_coverage(self._documents)
        else:
            self._problems.leave_out("coverage", "not all windows could be read")

    def _check_coverage(self, documents: _Documents) -> None:
        """Segments tile every document `copies` times.

        Segments that are whole documents need only be counted. Pieces tile a document as often as
        is left if as many begin as end at every token, but for its first and its end.
        """
        n = documents.n_tokens
        nothing = (np.empty(0, np.int64),) * 3
        columns = zip(nothing, *self._pieces, strict=True)
        doc, offset, length = (np.concatenate(column) for column in columns)
        rest = documents.copies.astype(np.int64) - self._whole
        in_pieces = np.zeros(len(n), np.bool_)
        in_pieces[doc] = True
        self._problems.each(
            "coverage",
            np.flatnonzero(~in_pieces & (rest != 0)),
            lambda i: (
                f"document {i}",
                f"it is there {self._whole[i]} times",
                f"{documents.copies[i]} times",
            ),
        )
        at_doc, at_token, net = _balance(doc, offset, length)
        due = np.select([at_token == 0, at_token == n[at_doc]], [rest[at_doc], -rest[at_doc]], 0)
        wrong = np.flatnonzero(net != due)
        _, first = np.unique(at_doc[wrong], return_index=True)
        self._problems.each(
            "coverage",
            wrong[first],
            lambda i: (
                f"document {at_doc[i]}, token {at_token[i]} of {n[at_doc[i]]}",
                f"segments that begin here less those that end here: {net[i]}",
                f"{due[i]}, since {documents.copies[at_doc[i]]} copies have every token once",
            ),
        )
        self._problems.note(
            "coverage", f"{len(n):,} documents, {np.count_nonzero(in_pieces):,} of them cut"
        )


def _column(batch: pa.RecordBatch, name: str) -> Any:
    """A column as what the schema says it is, which type checkers cannot know."""
    return batch.column(name)


def _nulls(array: Any) -> int:
    """Null values in an array and what is inside it."""
    if isinstance(array, pa.DictionaryArray):
        return array.indices.null_count + array.dictionary.null_count
    inside = array.values if isinstance(array, pa.ListArray | pa.FixedSizeListArray) else None
    return array.null_count + (0 if inside is None else _nulls(inside))


def _balance(doc: Array, offset: Array, length: Array) -> tuple[Array, Array, Array]:
    """Segments that begin less those that end, at each (document, token) where one does."""
    at_doc = np.concatenate((doc, doc))
    at_token = np.concatenate((offset, offset + length))
    change = np.repeat(np.array([1, -1], np.int64), len(doc))
    order = np.lexsort((at_token, at_doc))
    at_doc, at_token, change = at_doc[order], at_token[order], change[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (at_doc[1:] != at_doc[:-1]) | (at_token[1:] != at_token[:-1])
    first = np.flatnonzero(new)
    net = np.add.reduceat(change, first) if len(first) else change
    return at_doc[first], at_token[first], net


# The manifest's counts and weights


def _check_counts(
    counts: dict[str, _Counts],
    manifest: Manifest,
    documents: _Documents | None,
    complete: bool,
    problems: _Problems,
) -> None:
    windows = sum(count.windows for count in counts.values())
    segments = sum(count.segments for count in counts.values())
    tokens = sum(int(count.tokens.sum()) for count in counts.values())
    positions = windows * manifest["settings"]["window"]
    problems.note("segments", f"{segments:,} segments in {windows:,} windows")
    problems.note("codes", f"{positions:,} positions")
    problems.note("tokens", f"{tokens:,} tokens")
    problems.note("packing", f"{segments:,} segments")
    if not complete:
        problems.leave_out("histogram", "not all windows could be read")
        return
    for split, count in counts.items():
        histogram = count.codes[:, 1:].sum(axis=0).tolist()
        found = {
            "windows": count.windows,
            "tokens": int(count.tokens.sum()),
            "padding": count.padding,
            "segments": count.segments,
            "targets": sum(histogram),
            "histogram": histogram,
        }
        if documents is not None:
            found["cut_documents"] = count.cut_documents
        for key, value in found.items():
            where = f"{MANIFEST}: splits.{split}.{key}"
            problems.compare("histogram", where, manifest["splits"][split][key], value)
        for i, source in enumerate(manifest["sources"] if documents is not None else ()):
            histogram = count.codes[i, 1:].tolist()
            found = {
                "documents": int(count.documents[i]),
                "tokens": int(count.tokens[i]),
                "targets": sum(histogram),
                "histogram": histogram,
            }
            for key, value in found.items():
                where = f"{MANIFEST}: source {source['name']}, splits.{split}.{key}"
                problems.compare("histogram", where, source["splits"][split][key], value)
    problems.note("histogram", f"{len(counts)} splits, {len(manifest['sources'])} sources")


def _check_weights(manifest: Manifest, problems: _Problems) -> None:
    """The weight table against the train histogram, which is checked against the tokens."""
    settings, weights = manifest["settings"], manifest["weights"]
    table = weights["table"]
    problems.compare("weights", f"{MANIFEST}: weights.alpha", weights["alpha"], settings["alpha"])
    ceiling = settings["max_weight"]
    if ceiling is not None and settings["alpha"] > (ceiling - 1) * (1 + TOLERANCE):
        found = f"alpha {settings['alpha']}, max_weight {ceiling}"
        problems.add("weights", f"{MANIFEST}: settings", found, f"alpha at most {ceiling - 1}")
    buckets = int(codes_of_contexts(settings["window"]).max())
    histogram = manifest["splits"][shard.TRAIN]["histogram"]
    if len(histogram) != buckets or len(table) != buckets:
        problems.add(
            "weights",
            MANIFEST,
            f"{len(histogram)} buckets in the histogram, {len(table)} in the table",
            f"{buckets} each",
        )
        return
    expected = weight_rows(histogram, settings)
    for found, row in zip(table, expected, strict=True):
        for key, value in row.items():
            if not _close(found[key], value):
                where = f"{MANIFEST}: weights.table, bucket {row['bucket']}, {key}"
                problems.add("weights", where, found[key], value)
    spent = sum(
        row["share"] * (found["weight"] - 1)
        for found, row in zip(table, expected, strict=True)
        if row["share"] is not None
    )
    due = settings["alpha"] if any(row["in_tail"] for row in expected) else 0.0
    problems.note("weights", f"{buckets} buckets, budget {spent:.6g} of {due:.6g}")
    for what, value in ((": weights.budget", weights["budget"]), (": sum of q (w - 1)", spent)):
        if not _close(value, due):
            problems.add("weights", MANIFEST + what, value, due)


def _close(found: object, expected: object) -> bool:
    if isinstance(found, float | int) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)
    return found == expected


# The token store


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of the store, memory-mapped. `chunks` are (first row, list offsets, values)."""

    ids: pa.ChunkedArray
    length: Array
    content_hash: Array
    chunks: tuple[tuple[int, Array, Array], ...]


def _open_store(url: str, shards: Manifest, problems: _Problems, meter: _Meter) -> "_Store | None":
    folder = _Folder(url, problems, meter)
    data = folder.manifest()
    manifest = parse(data, f"{folder.root}/{MANIFEST}", TOKEN_STORE)
    found, expected = xxhash.xxh3_128_hexdigest(data), shards["store"]["manifest_xxh3_128"]
    if found != expected:
        where = f"{folder.root}/{MANIFEST}: xxh3-128"
        problems.add("store", where, f"{found}: another store", expected)
        problems.leave_out("store", "it is not the store of these shards")
        return None
    opened = _Store(folder, manifest, problems)
    opened.check(shards, meter)
    return opened


class _Store:
    """The token store the shards were made from."""

    def __init__(self, folder: _Folder, manifest: Manifest, problems: _Problems) -> None:
        self._folder, self._manifest, self._problems = folder, manifest, problems
        self._parts = sorted(manifest["parts"], key=lambda part: part["part"])
        self._first = np.cumsum([0, *(part["documents"] for part in self._parts)])
        self._usable: dict[int, bool] = {}
        self._part = lru_cache(OPEN_PARTS)(self._load)

    def check(self, shards: Manifest, meter: _Meter) -> None:
        """The store's own files, and what the two manifests share."""
        meter.total += sum(p["file"]["bytes"] + p["index"]["bytes"] for p in self._parts)
        self._folder.check_tokenizer(self._manifest["tokenizer"]["sha256"], "store")
        same = {
            "tokenizer": (shards["tokenizer"], self._manifest["tokenizer"]),
            "inputs": (shards["inputs"], self._manifest["inputs"]),
            "settings.tokenize": (shards["settings"]["tokenize"], self._manifest["settings"]),
        }
        for key, (found, expected) in same.items():
            if found != expected:
                self._problems.add("store", f"{MANIFEST}: {key}", "not as in the store's manifest")
        read = {source["name"]: source["read"] for source in self._manifest["sources"]}
        for source in shards["sources"]:
            where = f"{MANIFEST}: source {source['name']}, read"
            self._problems.compare("store", where, source["read"], read.get(source["name"]))
        for i in range(len(self._parts)):
            self._part(i)
        self._problems.note("store", f"{len(self._parts):,} parts, {self._first[-1]:,} documents")

    def check_size(self, documents: int) -> None:
        self._problems.compare("store", "documents: rows", documents, int(self._first[-1]))

    def _load(self, i: int) -> _Part | None:
        """A part, or None where it cannot be used; what is wrong is said the first time."""
        if not self._usable.get(i, True):
            return None
        entry, again = self._parts[i], i in self._usable
        self._usable[i] = False
        try:
            if again:
                files = [self._folder.buffer(entry[key]["path"]) for key in ("file", "index")]
            else:
                files = [self._folder.checked(entry[key], "store") for key in ("file", "index")]
            readers = [pa.ipc.open_file(file) for file in files if file is not None]
            if len(readers) == len(files):
                part = _read_part(entry, *readers)
                self._usable[i] = True
                return part
        except UNREADABLE as error:
            found = f"it cannot be used: {_line(error)}"
            self._problems.add("store", f"part {entry['part']}", found)
        return None

    def check_documents(self, first: int, batch: pa.RecordBatch) -> None:
        """Rows of the documents table, the first of them document `first`."""
        document = np.arange(first, min(first + batch.num_rows, int(self._first[-1])))
        for i, mine in _runs(np.searchsorted(self._first[1:], document, "right"), document):
            part = self._part(i)
            if part is not None:
                row = int(mine[0] - self._first[i])
                rows = batch.slice(int(mine[0]) - first, len(mine))
                self._check_rows(part, self._parts[i], row, rows, mine)

    def _check_rows(
        self, part: _Part, entry: Any, row: int, rows: pa.RecordBatch, document: Array
    ) -> None:
        here = slice(row, row + len(document))
        differ = {
            "id": _differ(rows["id"], part.ids[here]),
            "part": _numbered(rows["part"], _positions([entry["part"]])) != 0,
            "source": _numbered(rows["source"], _positions([entry["source"]])) != 0,
            "row": rows["row"].to_numpy() != np.arange(here.start, here.stop),
            "n_tokens": rows["n_tokens"].to_numpy() != part.length[here],
            "content_hash": (_hashes(rows["content_hash"]) != part.content_hash[here]).any(axis=1),
        }
        for column, wrong in differ.items():
            self._problems.each(
                "store",
                np.flatnonzero(wrong),
                lambda k, column=column: (
                    f"document {document[k]}: {column}",
                    rows[column][k].as_py(),
                    f"as in row {row + k} of part {entry['part']}",
                ),
            )

    def check_tokens(self, w: _Windows, path: str) -> None:
        """The tokens of every segment against those of its document, a part at a time."""
        begin = np.cumsum(w.length, dtype=np.int64) - w.length
        usable = (w.doc >= 0) & (w.doc < self._first[-1])
        of_part = np.searchsorted(self._first[1:], w.doc, "right")
        tokens = w.tokens.reshape(-1)
        order = np.flatnonzero(usable)
        order = order[np.argsort(of_part[order], kind="stable")]
        for i, mine in _runs(of_part[order], order):
            part = self._part(i)
            if part is None:
                continue
            row = w.doc[mine] - self._first[i]
            inside = w.offset[mine] <= part.length[row] - w.length[mine]
            firsts = np.array([chunk[0] for chunk in part.chunks])
            mine, row = mine[inside], row[inside]
            of_chunk = np.searchsorted(firsts, row, "right") - 1
            by_chunk = np.argsort(of_chunk, kind="stable")
            for c, segments in _runs(of_chunk[by_chunk], by_chunk):
                first, offsets, values = part.chunks[c]
                chosen = mine[segments]
                start = offsets[row[segments] - first] + w.offset[chosen]
                length = w.length[chosen]
                wrong = tokens[_ranges(begin[chosen], length)] != values[_ranges(start, length)]
                if wrong.any():
                    self._report(w, path, chosen, length, wrong, begin)

    def _report(
        self, w: _Windows, path: str, chosen: Array, length: Array, wrong: Array, begin: Array
    ) -> None:
        segment = np.repeat(np.arange(len(chosen)), length)
        at, which = np.unique(segment[wrong], return_index=True)
        inside = (np.flatnonzero(wrong) - (np.cumsum(length) - length)[segment[wrong]])[which]
        size = w.tokens.shape[1]

        def describe(k: int) -> tuple[str, object, object]:
            s = chosen[at[k]]
            where = f"{path}, window {w.number[begin[s] // size]}, document {w.doc[s]}"
            return where, f"another token {w.offset[s] + inside[k]}", "the store's"

        self._problems.each("store", np.arange(len(at)), describe)


def _read_part(entry: Any, part: Any, index: Any) -> _Part:
    """A part's columns as arrays.

    Raises:
        pa.ArrowInvalid: not as the format says.
    """
    for reader, schema in ((part, store.part_schema()), (index, store.index_schema())):
        if not reader.schema.remove_metadata().equals(schema, check_metadata=True):
            found, expected = _schemas(reader.schema, schema)
            raise pa.ArrowInvalid(f"{found} instead of {expected}")
    if (part.schema.metadata or {}).get(b"source") != entry["source"].encode():
        raise pa.ArrowInvalid(f"its metadata does not say source {entry['source']}")
    documents, rows = part.read_all(), index.read_all()
    documents.validate(full=True)
    rows.validate(full=True)
    chunks: list[tuple[int, Array, Array]] = []
    first = 0
    for chunk in documents["tokens"].chunks:
        if chunk.null_count or chunk.values.null_count:
            raise pa.ArrowInvalid("null tokens")
        chunks.append((first, chunk.offsets.to_numpy(), chunk.values.to_numpy()))
        first += len(chunk)
    nothing = np.empty(0, np.int64)
    length = np.concatenate([nothing, *(np.diff(offsets) for _, offsets, _ in chunks)])
    if (len(length), int(length.sum())) != (entry["documents"], entry["tokens"]):
        raise pa.ArrowInvalid(f"{len(length):,} documents of {int(length.sum()):,} tokens")
    row = rows["row"].to_numpy()
    if not np.array_equal(row, np.arange(first)):
        raise pa.ArrowInvalid("its index does not have the rows 0, 1, ... of the part")
    if not np.array_equal(rows["length"].to_numpy(), length):
        raise pa.ArrowInvalid("its index has other lengths than the part")
    content_hash = [_hashes(chunk) for chunk in rows["content_hash"].chunks]
    return _Part(
        ids=documents["id"],
        length=length,
        content_hash=np.concatenate([np.empty((0, 2), np.uint64), *content_hash]),
        chunks=tuple(chunks),
    )


def _differ(found: Any, expected: pa.ChunkedArray) -> Array:
    """Where two columns of strings differ."""
    if pa.chunked_array([found]).equals(expected):
        return np.zeros(len(found), np.bool_)
    pairs = zip(found.to_pylist(), expected.to_pylist(), strict=True)
    return np.array([a != b for a, b in pairs])


def _runs(keys: Array, values: Array) -> Iterator[tuple[int, Array]]:
    """The values of each run of equal keys."""
    if len(keys):
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        for start, run in zip(starts, np.split(values, starts[1:]), strict=True):
            yield int(keys[start]), run


def _ranges(starts: Array, lengths: Array) -> Array:
    """start, start + 1, ... of each range, end to end: ([5, 0], [2, 3]) gives [5, 6, 0, 1, 2]."""
    before = np.cumsum(lengths, dtype=np.int64) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))
