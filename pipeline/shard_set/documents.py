"""Single rows of the documents table; the table is never loaded whole."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import Manifest, ShardFile
from ...schemas.sizes import plural
from ..files.storage import Folder
from .manifest import SEE_VERIFY, reading

__all__ = ["DocumentRow", "find_ids", "ids_near", "read_rows"]

COLUMNS = ["doc_index", "id", "source", "n_tokens", "split", "copies", "drop_reason"]


@dataclass(frozen=True, kw_only=True)
class DocumentRow:
    """One row of the documents table; schemas/README.md says what its columns mean."""

    doc_index: int
    id: str
    source: str
    n_tokens: int
    split: str
    copies: int
    drop_reason: str | None


def read_rows(shards: Folder, manifest: Manifest, wanted: Iterable[int]) -> dict[int, DocumentRow]:
    """Reads the rows of some documents, by `doc_index`; numbers not in the table are left out.

    The table has all documents in the order of `doc_index`, so the number tells where the row is.

    Raises:
        FormatError: a file of the table is missing, cannot be read, or is not in that order.
    """
    total = sum(entry["rows"] for entry in manifest["documents"])
    left = np.unique(np.array([i for i in wanted if 0 <= i < total], np.int64))
    found: dict[int, DocumentRow] = {}
    first = 0
    for entry in manifest["documents"]:
        mine = left[(left >= first) & (left < first + entry["rows"])] - first
        if len(mine):
            with _open(shards, entry) as file:
                for row in _rows_at(file, mine):
                    found[row["doc_index"]] = DocumentRow(**row)
            if not {first + i for i in mine.tolist()} <= found.keys():
                raise FormatError(
                    "the documents table is not sorted by doc_index",
                    where=shards.url_of(entry["path"]),
                    fix=SEE_VERIFY,
                )
        first += entry["rows"]
    return found


def _rows_at(file: pq.ParquetFile, wanted: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    begin = 0
    for group in range(file.num_row_groups):
        end = begin + file.metadata.row_group(group).num_rows
        mine = wanted[(wanted >= begin) & (wanted < end)] - begin
        if len(mine):
            yield from file.read_row_group(group, columns=COLUMNS).take(mine).to_pylist()
        begin = end


def find_ids(shards: Folder, manifest: Manifest, wanted: str, most: int) -> list[int]:
    """The `doc_index` of the first documents that have an id, `most` of them at most."""
    found: list[int] = []
    same: Any = pa.scalar(wanted, pa.string())
    for table in _id_groups(shards, manifest):
        numbers: list[Any] = table.filter(pc.equal(table["id"], same))["doc_index"].to_pylist()
        found += numbers
        if len(found) >= most:
            break
    return found[:most]


def ids_near(shards: Folder, manifest: Manifest, wanted: str) -> list[str]:
    """Ids that may have been meant: one that contains it, and its two neighbours when sorted."""
    containing = before = after = None
    same: Any = pa.scalar(wanted, pa.string())
    for table in _id_groups(shards, manifest):
        ids = table["id"]
        if containing is None:
            inside = ids.filter(pc.match_substring(ids, wanted, ignore_case=True))
            containing = inside[0].as_py() if len(inside) else None
        low = pc.max(ids.filter(pc.less(ids, same))).as_py()
        high = pc.min(ids.filter(pc.greater(ids, same))).as_py()
        before = max((x for x in (before, low) if x is not None), default=None)
        after = min((x for x in (after, high) if x is not None), default=None)
    return list(dict.fromkeys(x for x in (containing, before, after) if x is not None))


def _id_groups(shards: Folder, manifest: Manifest) -> Iterator[pa.Table]:
    for entry in manifest["documents"]:
        with _open(shards, entry) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=["doc_index", "id"])


@contextmanager
def _open(shards: Folder, entry: ShardFile) -> Iterator[pq.ParquetFile]:
    path = entry["path"]
    with (
        reading(shards, entry),
        shards.local_copies([path]) as local,
        pq.ParquetFile(local[path]) as file,
    ):
        found, expected = file.metadata.num_rows, entry.get("rows", 0)
        if found != expected:
            raise ValueError(f"it has {plural(found, 'row')}, but the manifest says {expected:,}")
        yield file
