"""The shards: files and record batches are checked, and each window is checked and counted.

Windows whose segments are inconsistent are reported and left out of all other checks. Checks that
need all windows are then skipped.
"""

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ...schemas import shard
from ...schemas.ipc import is_compressed
from ...schemas.manifest import MANIFEST, Manifest, has_spans
from ...schemas.sizes import plural
from .arrays import UNREADABLE, Array, cause, column, differing_fields, nulls
from .claims import Counts
from .documents import DocumentsOf
from .files import Folder
from .report import Problems
from .segments import Seen, Segments
from .store import Store
from .windows import Windows, check_windows, codes_of_contexts

__all__ = ["Shards", "no_counts", "shard_of"]


class Documented(Protocol):
    """The documents of a set: all of them, or those that are asked for."""

    def __len__(self) -> int: ...

    def of(self, doc: Array) -> DocumentsOf:
        """What is known of some documents, which may be repeated."""
        ...


class Shards:
    """Reads shards, one record batch at a time.

    Args:
        folder: the shard set.
        manifest: of the shard set.
        documents: its documents; None if they are unknown.
        against: the token store, if there is one to compare with.
        problems: takes what is wrong.

    Attributes:
        counts: what was read, by split.
        complete: whether all windows are in `counts`.
        batches: how many record batches were read.
    """

    def __init__(
        self,
        folder: Folder,
        manifest: Manifest,
        documents: Documented | None,
        against: Store | None,
        problems: Problems,
    ) -> None:
        self._folder, self._manifest, self._problems = folder, manifest, problems
        self._documents, self._against = documents, against
        self._segments = Segments(manifest, problems)
        self._window: int = manifest["settings"]["window"]
        self._buckets = int(codes_of_contexts(self._window).max())
        self.counts = no_counts(manifest)
        self.complete = True
        self.batches = 0

    def read(self, number: int) -> None:
        """Checks a shard, by its number among those of all splits."""
        split, i = shard_of(self._manifest, number)
        shards = self._manifest["shards"][split]
        expected = shard.shard_name(split, i, len(shards))
        if shards[i]["path"] != expected:
            self._problems.add("schema", MANIFEST, f"a shard {shards[i]['path']}", expected)
        self.complete &= self._read_shard(shards[i], split)

    def seen(self) -> Seen:
        """The segments that were read."""
        return self._segments.seen()

    def _read_shard(self, entry: Any, split: str) -> bool:
        """Reads a shard; returns whether all its windows could be counted."""
        path, data = entry["path"], self._folder.checked(entry)
        if data is None:
            return False
        whole, first, rows = True, 0, shard.rows_per_batch(self._window)
        try:
            if is_compressed(pa.BufferReader(data)):
                self._problems.add("schema", path, "it is compressed", "uncompressed")
                return False
            reader = pa.ipc.open_file(data)
            expected = shard.shard_schema(self._window, has_spans(self._manifest))
            if not reader.schema.equals(expected, check_metadata=True):
                self._problems.add("schema", path, *differing_fields(reader.schema, expected))
                return False
            for i in range(reader.num_record_batches):
                batch, where = reader.get_batch(i), f"{path}, record batch {i}"
                self.batches += 1
                fewest = 1 if i == reader.num_record_batches - 1 else rows
                if not fewest <= batch.num_rows <= rows:
                    self._problems.add("schema", where, plural(batch.num_rows, "window"), rows)
                if not self._well_formed(batch, where):
                    whole = False
                elif batch.num_rows:
                    self._check_dictionary(batch, split, path)
                    number = first + np.arange(batch.num_rows)
                    whole &= self._check_windows(Windows(batch, number, path), split)
                first += batch.num_rows
        except UNREADABLE as error:
            self._problems.add("schema", path, f"the file cannot be read: {cause(error)}")
            return False
        self._problems.compare("schema", f"{path}: windows", first, entry["windows"])
        self.counts[split].windows += first
        return whole

    def _well_formed(self, batch: pa.RecordBatch, where: str) -> bool:
        try:
            batch.validate(full=True)
        except UNREADABLE as error:
            self._problems.add("schema", where, f"it is not valid: {cause(error)}")
            return False
        missing = sum(nulls(column) for column in batch.columns)
        if missing:
            self._problems.add(
                "schema", where, plural(missing, "value is null", "values are null"), "none"
            )
            return False
        return True

    def _check_dictionary(self, batch: pa.RecordBatch, split: str, path: str) -> None:
        table = [row["weight"] for row in self._manifest["weights"]["table"]]
        weights = table if split == shard.TRAIN else [1.0] * self._buckets
        expected = np.array([0.0, *weights], np.float32)
        found = column(batch, "loss_weight").flatten().dictionary.to_numpy(zero_copy_only=False)
        if not np.array_equal(found, expected):
            self._problems.add("weights", f"{path}: dictionary", found.tolist(), expected.tolist())

    def _check_windows(self, w: Windows, split: str) -> bool:
        """Checks and counts windows; returns whether all were consistent and counted."""
        read, counts = len(w.number), self.counts[split]
        known = None if self._documents is None else len(self._documents)
        w, codes = check_windows(w, self._manifest["tokenizer"], known, self._problems)
        if self._documents is None:
            counts.add(w, codes, None)
        else:
            documents = self._documents.of(w.doc[w.doc != shard.PADDING])
            counts.add(w, codes, documents.source)
            counts.cut_documents += self._segments.add(w, documents, split)
        if self._against is not None:
            self._against.check_tokens(w, self._problems)
        return len(w.number) == read


def no_counts(manifest: Manifest) -> dict[str, Counts]:
    """The counts of nothing, by split."""
    buckets = int(codes_of_contexts(manifest["settings"]["window"]).max())
    return {split: Counts(len(manifest["sources"]), buckets) for split in shard.SPLITS}


def shard_of(manifest: Manifest, number: int) -> tuple[str, int]:
    """The split of a shard, and its number in that, by its number among all shards."""
    for split in shard.SPLITS:
        if number < len(manifest["shards"][split]):
            return split, number
        number -= len(manifest["shards"][split])
    raise IndexError(number)
