"""The records of a split's files, in batches of a few MiB: one reader per format."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ...schemas.errors import ExactcptError
from ..files.storage import open_input
from . import hub
from .columns import batch_of_columns
from .jsonl import parse_block
from .listing import InputFile, is_unchanged
from .records import Batch, Fields, Rejected, Strings
from .splits import Member

__all__ = [
    "BLOCK_BYTES",
    "BadFileError",
    "join_small",
    "open_decompressed",
    "read_member",
    "record_batches",
]

BLOCK_BYTES = 8 << 20
"""Read at a time; a longer line or row is read whole."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadFileError(ExactcptError):
    """A file that cannot be read to its end: truncated, corrupt, or not of its format."""


def read_member(member: Member, fields: Fields, newlines_before: int = 0) -> Iterator[Batch]:
    """Reads the records of a file, or of a range of it, in order.

    Args:
        member: the file or range.
        fields: which fields of a record to read.
        newlines_before: how many newlines of the file precede a byte range.

    Raises:
        BadFileError: the file is truncated, corrupt, or not of its format.
    """
    file = member.file
    try:
        yield from READERS[file.format](member, fields, newlines_before)
    except (pa.ArrowException, EOFError, UnicodeDecodeError) as error:
        _refuse_changed(file)
        raise _bad_file(file, error) from None
    except OSError as error:
        # Arrow's own errors are plain OSErrors; all others come from the disk or the network.
        if type(error) is not OSError or error.errno is not None:
            raise
        _refuse_changed(file)
        raise _bad_file(file, error) from None
    _refuse_changed(file)


def _refuse_changed(file: InputFile) -> None:
    if not is_unchanged(file):
        raise ExactcptError(
            "an input file changed while it was read",
            where=file.url,
            fix="run the job again once the file no longer changes",
        )


def _bad_file(file: InputFile, error: Exception) -> BadFileError:
    what = " ".join(str(error).split())[:200]
    kind = f"{file.compression} " if file.compression else ""
    return BadFileError(
        f"a file cannot be read to its end: {what}",
        where=file.url,
        expected=f"{kind}{file.format}",
        fix="restore the file, or leave such files out with --on-bad-file skip",
    )


def join_small(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Joins small batches, such as those of many small files, up to BLOCK_BYTES."""
    waiting: list[Batch] = []
    filled = 0
    for batch in batches:
        if waiting and filled + batch.content.data.nbytes > BLOCK_BYTES:
            yield Batch.join(waiting)
            waiting, filled = [], 0
        waiting.append(batch)
        filled += batch.content.data.nbytes
    if waiting:
        yield waiting[0] if len(waiting) == 1 else Batch.join(waiting)


def _read_jsonl(member: Member, fields: Fields, newlines_before: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        line = 1
        if member.start:
            line += newlines_before + _skip_begun_line(stream, member.start)
        remaining = None if member.stop is None else member.stop - stream.tell()
        for i, block in enumerate(_blocks_of_lines(stream, remaining)):
            data = block.removeprefix(BYTE_ORDER_MARK) if i == member.start == 0 else block
            yield parse_block(data, line, member.file.path, fields)
            line += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))


def _skip_begun_line(stream: Any, start: int) -> int:
    """Seeks to the first line that begins at `start` or later; returns the newlines passed."""
    stream.seek(start - 1)
    return int(len(stream.readline()) > 1)


def _blocks_of_lines(stream: Any, remaining: int | None) -> Iterator[bytes]:
    """Yields blocks of whole lines until `remaining` bytes are read and the last line is whole."""
    pending: list[bytes] = []
    while remaining is None or remaining > 0:
        chunk = stream.read(BLOCK_BYTES if remaining is None else min(BLOCK_BYTES, remaining))
        if not chunk:
            break
        remaining = None if remaining is None else remaining - len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join([*pending, chunk[:cut]])
            pending = []
        pending.append(chunk[cut:])
    rest = b"".join(pending)
    if rest:
        yield rest if remaining is None else rest + stream.readline()


@contextmanager
def open_decompressed(file: InputFile) -> Iterator[Any]:
    """Opens a file for reading its bytes as they were before compression."""
    with open_input(file.url) as raw:
        if file.compression is None:
            yield raw
        elif file.bytes == 0:
            raise EOFError("it has no bytes, not even a header")
        else:
            with pa.CompressedInputStream(pa.PythonFile(raw, "r"), file.compression) as stream:
                yield stream


def _read_parquet(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_input(member.file.url) as stream:
        parquet = pq.ParquetFile(stream)
        metadata = parquet.metadata
        stop = metadata.num_row_groups if member.stop is None else member.stop
        groups = range(member.start, stop)
        first_row = 1 + sum(metadata.row_group(i).num_rows for i in range(member.start))
        rows = sum(metadata.row_group(i).num_rows for i in groups)
        size = sum(metadata.row_group(i).total_byte_size for i in groups)
        names = set(parquet.schema_arrow.names)
        wanted = [name for name in (fields.id, fields.content) if name in names]
        batches = parquet.iter_batches(
            batch_size=max(1, min(1 << 16, rows * BLOCK_BYTES // max(1, size))),
            row_groups=list(groups),
            columns=wanted if fields.content in names else None,
            use_threads=False,
        )
        yield from _column_batches(batches, member.file, fields, first_row)


def _read_arrow(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_input(member.file.url) as stream:
        yield from _column_batches(record_batches(stream), member.file, fields, 1)


def record_batches(stream: Any) -> Iterable[pa.RecordBatch]:
    """The record batches of an Arrow IPC file or stream."""
    try:
        reader = pa.ipc.open_file(stream)
    except pa.ArrowInvalid:
        stream.seek(0)
        return pa.ipc.open_stream(stream)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _column_batches(
    batches: Iterable[pa.RecordBatch | pa.Table], file: InputFile, fields: Fields, first_row: int
) -> Iterator[Batch]:
    for whole in batches:
        step = max(1, whole.num_rows * BLOCK_BYTES // max(1, whole.nbytes))
        for start in range(0, whole.num_rows, step):
            rows = whole.slice(start, step)
            try:
                batch = batch_of_columns(rows, file.path, fields, first_row)
            except ExactcptError as error:
                raise ExactcptError(
                    f"source {file.source!r}: {error.found}",
                    where=file.url,
                    expected=error.expected,
                    fix=error.fix,
                ) from None
            yield batch
            first_row += rows.num_rows


def _read_text(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        data = stream.read()
    path = member.file.path
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        yield Batch(
            ids=pa.array([], pa.string()),
            content=Strings.of_texts([]),
            rejected=[Rejected(path, "line", line, "invalid UTF-8")],
        )
        return
    yield Batch(
        ids=pa.array([path]), content=Strings.of_texts([data.removeprefix(BYTE_ORDER_MARK)])
    )


def _read_hub(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    tables = hub.read_shard(member.file.url, member.start)
    # Rows are counted from 1 in each shard, and ids must differ between shards.
    shard = replace(member.file, path=f"{member.file.path}#{member.start}")
    yield from _column_batches(tables, shard, fields, 1)


READERS = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "text": _read_text,
    "hub": _read_hub,
}
