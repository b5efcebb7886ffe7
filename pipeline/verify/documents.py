"""The documents table: read once, checked against itself and the manifest's sources.

All other checks of documents work on these columns.
"""

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...schemas import shard
from ...schemas.manifest import MANIFEST, Manifest
from ...schemas.sizes import plural
from .arrays import UNREADABLE, Array, cause, differing_fields, groups, hashes, nulls, numbered
from .files import Folder
from .report import Problems, Words
from .store import Store

__all__ = [
    "DUPLICATE",
    "MIXING",
    "VALIDATION",
    "Documents",
    "DocumentsOf",
    "Rows",
    "check_documents",
    "compare_documents",
    "read_documents",
]

REASONS = ("duplicate", "mixing")
DUPLICATE, MIXING = range(2)
VALIDATION = shard.SPLITS.index(shard.VALIDATION)
DOCUMENTS_PER_BATCH = 1 << 16


@dataclass(frozen=True, kw_only=True)
class DocumentsOf:
    """What is known of the documents of some segments, one value for each."""

    n_tokens: Array
    split: Array
    source: Array


@dataclass(frozen=True, kw_only=True)
class Documents:
    """Columns of the documents table, one value per document. Names are numbered, null is -1.

    `names` has the names of each numbered column. The manifest's sources, SPLITS and REASONS come
    first: a larger number is a name that the manifest or the format does not know.
    """

    names: dict[str, list[str]]
    n_tokens: Array
    copies: Array
    row: Array
    content_hash: Array
    source: Array
    part: Array
    split: Array
    drop_reason: Array

    def __len__(self) -> int:
        return len(self.n_tokens)

    def of(self, doc: Array) -> DocumentsOf:
        """What is known of some documents, which may be repeated."""
        return DocumentsOf(
            n_tokens=self.n_tokens[doc], split=self.split[doc], source=self.source[doc]
        )


def read_documents(
    folder: Folder, manifest: Manifest, against: Store | None, problems: Problems
) -> Documents | None:
    """Returns the documents table, or None if it cannot be used.

    Args:
        folder: the shard set.
        manifest: of the shard set.
        against: the token store, to compare the number of documents.
        problems: takes what is wrong.
    """
    entries = manifest["documents"]
    paths = [entry["path"] for entry in entries]
    if paths != sorted(set(paths)):
        problems.add(
            "documents", MANIFEST, f"files {paths}", "each once, in the order of their names"
        )
    table = _Table(manifest, problems)
    files = [folder.checked(entry) for entry in entries]
    whole = all(
        file is not None and table.read(file, entry)
        for file, entry in zip(files, entries, strict=True)
    )
    problems.note("documents", plural(table.rows, "document"))
    if not (whole and table.in_order):
        for check in ("coverage", "dedup", "mixing", "split", "packing"):
            problems.note(check, "skipped: the documents table cannot be used")
        return None
    if against is not None:
        against.check_size(table.rows, problems)
    return table.documents()


def compare_documents(
    folder: Folder, manifest: Manifest, number: int, against: Store, problems: Problems
) -> None:
    """Compares a file of the documents table with the store, as far as it can be read.

    Args:
        folder: the shard set.
        manifest: of the shard set.
        number: of the file.
        against: the token store.
        problems: takes what differs. What is wrong with the file itself, `read_documents` tells.
    """
    entries = manifest["documents"]
    first = sum(entry["rows"] for entry in entries[:number])
    data = folder.checked(entries[number])
    if data is None:
        return
    with suppress(*UNREADABLE):
        file = pq.ParquetFile(pa.BufferReader(data))
        if not file.schema_arrow.equals(shard.documents_schema()):
            return
        for batch in file.iter_batches(DOCUMENTS_PER_BATCH):
            _refuse_invalid(batch)
            against.check_documents(first, batch, problems)
            first += batch.num_rows


def _refuse_invalid(batch: pa.RecordBatch) -> None:
    """Raises pa.ArrowInvalid if a batch of the table has values that it may not have."""
    batch.validate(full=True)
    missing = sum(nulls(batch.column(i)) for i in range(batch.num_columns - 1))
    if missing:
        raise pa.ArrowInvalid(plural(missing, "value is null", "values are null"))


def _numbers(manifest: Manifest) -> dict[str, dict[str, int]]:
    """The numbers of names in each numbered column, as far as they are known before."""
    sources = [source["name"] for source in manifest["sources"]]
    known = {"source": sources, "part": (), "split": shard.SPLITS, "drop_reason": REASONS}
    return {column: {name: i for i, name in enumerate(names)} for column, names in known.items()}


class Rows:
    """The documents table of a set, of which only the rows that are asked for are read.

    For a table that was found to be in order. A row group has the documents of a part.

    Args:
        folder: the shard set.
        manifest: of the shard set.
    """

    COLUMNS = ("n_tokens", "split", "source")

    def __init__(self, folder: Folder, manifest: Manifest) -> None:
        self._files = [pq.ParquetFile(folder.open_ranges(e["path"])) for e in manifest["documents"]]
        self._groups = [
            (file, i) for file in self._files for i in range(file.metadata.num_row_groups)
        ]
        rows = [file.metadata.row_group(i).num_rows for file, i in self._groups]
        self._firsts = np.cumsum(rows, dtype=np.int64) - rows
        self._length = sum(rows)
        self._numbers = _numbers(manifest)
        self._read: dict[int, DocumentsOf] = {}

    def __len__(self) -> int:
        return self._length

    def of(self, doc: Array) -> DocumentsOf:
        """What is known of some documents, which may be repeated."""
        found = {name: np.empty(len(doc), np.int64) for name in self.COLUMNS}
        group = np.searchsorted(self._firsts, doc, "right") - 1
        for number, mine in groups(group, np.arange(len(doc))):
            rows = doc[mine] - self._firsts[number]
            read = self._group(number)
            for name, values in found.items():
                values[mine] = getattr(read, name)[rows]
        return DocumentsOf(**found)

    def _group(self, number: int) -> DocumentsOf:
        if number not in self._read:
            file, i = self._groups[number]
            table = file.read_row_group(i, columns=[*self.COLUMNS]).combine_chunks()
            (batch,) = table.to_batches()
            self._read[number] = DocumentsOf(
                n_tokens=batch.column("n_tokens").to_numpy(),
                split=numbered(batch.column("split"), self._numbers["split"]),
                source=numbered(batch.column("source"), self._numbers["source"]),
            )
        return self._read[number]


class _Table:
    """Reads one file after the other."""

    def __init__(self, manifest: Manifest, problems: Problems) -> None:
        self.rows = 0
        self.in_order = True
        self._problems = problems
        self._numbers = _numbers(manifest)
        self._columns: dict[str, list[Array]] = {}
        self._add(pa.RecordBatch.from_pylist([], shard.documents_schema()))

    def read(self, data: pa.Buffer, entry: Any) -> bool:
        """Reads a file; returns whether it has as many rows as the manifest says."""
        path, first = entry["path"], self.rows
        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            found, expected = file.schema_arrow, shard.documents_schema()
            if not found.equals(expected):
                self._problems.add("documents", path, *differing_fields(found, expected))
                return False
            for batch in file.iter_batches(DOCUMENTS_PER_BATCH):
                self._check_batch(batch)
                self._add(batch)
        except UNREADABLE as error:
            self._problems.add("documents", path, f"the file cannot be read: {cause(error)}")
            return False
        rows = self.rows - first
        self._problems.compare("documents", f"{path}: rows", rows, entry["rows"])
        return rows == entry["rows"]

    def _check_batch(self, batch: pa.RecordBatch) -> None:
        _refuse_invalid(batch)
        first, doc_index = self.rows, batch.column("doc_index").to_numpy()
        misplaced = doc_index != first + np.arange(len(doc_index))
        self.in_order = self.in_order and not misplaced.any()
        self._problems.each(
            "documents",
            misplaced,
            lambda i: f"row {first + i}",
            lambda i: f"doc_index {doc_index[i]}",
            lambda i: f"{first + i}, over all files",
        )

    def _add(self, batch: pa.RecordBatch) -> None:
        values = {name: batch.column(name).to_numpy() for name in ("n_tokens", "copies", "row")}
        values["content_hash"] = hashes(batch.column("content_hash"))
        for name, numbers in self._numbers.items():
            values[name] = numbered(batch.column(name), numbers)
        for name, array in values.items():
            self._columns.setdefault(name, []).append(array)
        self.rows += batch.num_rows

    def documents(self) -> Documents:
        """Returns all rows; to be called once, since it releases the batches it joins."""
        names = {column: list(numbers) for column, numbers in self._numbers.items()}
        joined = {name: np.concatenate(self._columns.pop(name)) for name in [*self._columns]}
        return Documents(names=names, **joined)


def check_documents(d: Documents, manifest: Manifest, problems: Problems) -> None:
    """Checks the table's own rules, then compares its sums with the manifest."""

    def rule(broken: Array, found: Words, expected: str) -> None:
        problems.each("documents", broken, "document {}".format, found, expected)

    sources, parts = d.names["source"], d.names["part"]
    dropped = d.drop_reason >= 0
    rule(d.n_tokens < 1, lambda i: plural(d.n_tokens[i], "token"), "at least 1")
    rule(d.copies < 0, lambda i: plural(d.copies[i], "copy", "copies"), "at least 0")
    rule(d.split >= len(shard.SPLITS), "an unknown split", " or ".join(shard.SPLITS))
    rule(
        dropped != (d.copies == 0),
        lambda i: (
            f"copies is {d.copies[i]}, and there is {'a' if dropped[i] else 'no'} drop_reason"
        ),
        "a drop_reason where copies is 0, and nowhere else",
    )
    rule(d.drop_reason >= len(REASONS), "an unknown drop_reason", " or ".join(REASONS))
    rule(
        d.source >= len(manifest["sources"]),
        lambda i: f"source {sources[d.source[i]]}",
        "a source of the manifest",
    )
    # np.roll moves the last value to the front, where it is not used: the first document begins a
    # part.
    same_part = np.diff(d.part, prepend=-1) == 0
    rule(
        d.row != np.where(same_part, np.roll(d.row, 1) + np.int64(1), 0),
        lambda i: f"row {d.row[i]} of part {parts[d.part[i]]}",
        "rows 0, 1, ... of each part",
    )
    rule(
        d.part < np.maximum.accumulate(d.part),
        lambda i: f"part {parts[d.part[i]]} begins again",
        "all documents of a part together",
    )
    rule(
        same_part & (d.source != np.roll(d.source, 1)),
        lambda i: f"two sources in part {parts[d.part[i]]}",
        "one source per part",
    )
    if parts != sorted(parts):
        problems.add(
            "documents", "documents", "parts out of order", "parts in the order of their names"
        )
    for number, source in enumerate(manifest["sources"]):
        _check_source(d, d.source == number, source, problems)


def _check_source(d: Documents, mine: Array, source: Any, problems: Problems) -> None:
    n_tokens, copies = d.n_tokens[mine].astype(np.int64), d.copies[mine].astype(np.int64)
    where = f"{MANIFEST}: source {source['name']}"
    read = {"documents": len(n_tokens), "tokens": int(n_tokens.sum())}
    problems.claims("documents", f"{where}, read", source["read"], read)
    counts = np.bincount(d.drop_reason[mine] + 1, minlength=len(REASONS) + 1)[1:].tolist()
    dropped = {reason: count for reason, count in zip(REASONS, counts, strict=False) if count}
    said = {reason: count for reason, count in source["dropped"].items() if count}
    problems.compare("documents", f"{where}, dropped", said, dropped)
    for i, split in enumerate(shard.SPLITS):
        there = np.where(d.split[mine] == i, copies, 0)
        sums = {"documents": int(there.sum()), "tokens": int((there * n_tokens).sum())}
        problems.claims("documents", f"{where}, splits.{split}", source["splits"][split], sums)
