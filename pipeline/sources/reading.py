"""The records of a split's files, in batches of a few MiB: one reader per format."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...schemas.errors import ExactcptError
from ..core.choices import Format
from ..files.arrow import open_native
from ..files.storage import open_input
from . import datatrove, delimited, hub, mds, megatron, npy, webdataset, wet
from .columns import batch_of_columns
from .compression import DamagedError, open_decompressed
from .content import HEAD_BYTES, Content, recognise, recognise_json, recognise_lines
from .gathering import Item, gather
from .jsonl import parse_block
from .lines import LongLineError, blocks_of_lines, rest_of_line
from .listing import InputFile, is_unchanged
from .records import (
    BLOCK_BYTES,
    BadFileError,
    Batch,
    DamagedFileError,
    Fields,
    Rejected,
    Strings,
    too_long,
)
from .splits import Member

__all__ = [
    "BLOCK_BYTES",
    "BadFileError",
    "batches_of",
    "column_names",
    "join_small",
    "read_member",
    "record_batches",
]

LONGEST_MAGIC = 10
"""Bytes with which each compression can be recognised."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
FIXED_SIZE_NULLS = "Expected all lists to be of size"
"""What Arrow says about Parquet's fixed-size lists with nulls; it has no class for it."""


def read_member(member: Member, fields: Fields, newlines_before: int = 0) -> Iterator[Batch]:
    """Reads the records of a file, or of a range of it, in order.

    Args:
        member: the file or range.
        fields: which fields of a record to read.
        newlines_before: how many newlines of the file precede a byte range.

    Raises:
        BadFileError: the file is truncated, corrupt, or not of its format.
        ExactcptError: it lacks a column, a record is too long, or it changes meanwhile.
    """
    file = member.file
    try:
        yield from READERS[file.format](member, fields, newlines_before)
    except BadFileError:
        _refuse_changed(file)
        raise
    except MemoryError as error:  # Arrow's too
        raise ExactcptError(
            f"there is not enough memory to read a file: {error}",
            where=file.url,
            fix="use fewer --workers or a machine with more memory, or write the file with smaller "
            "row groups or record batches",
        ) from None
    except (pa.ArrowException, DamagedError, UnicodeDecodeError) as error:
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
    """An error about a file that a library cannot read: its name may be wrong, or its bytes are."""
    with open_input(file.url) as stream:
        head = stream.read(HEAD_BYTES)
    content = recognise(head)
    if content is not None and not _is_as_named(content, file):
        return _other_content(file, content)
    if content is None and file.compression is not None and len(head) >= LONGEST_MAGIC:
        return BadFileError(
            f"a file has a name of {file.compression} data, and its first bytes are not such data",
            where=file.url,
            expected=_kind(file),
            fix="if it is not compressed, take the suffix from its name; otherwise restore it",
        )
    what = " ".join(str(error).split())[:200]
    if isinstance(error, pa.ArrowNotImplementedError) or FIXED_SIZE_NULLS in what:
        return BadFileError(
            f"pyarrow cannot read this file, which may well be whole: {what}",
            where=file.url,
            expected=_kind(file),
            fix="write it anew with plain columns (strings, lists of integers)",
        )
    return DamagedFileError(
        f"a file cannot be read to its end: {what}",
        where=file.url,
        expected=_kind(file),
        fix="restore the file",
    )


def _is_as_named(content: Content, file: InputFile) -> bool:
    return file.format in content.formats or content.name.endswith(f" with {file.compression}")


def _other_content(file: InputFile, content: Content) -> BadFileError:
    return BadFileError(
        f"a file is not what its name or its source says: it seems to be {content.name}",
        where=file.url,
        expected=_kind(file),
        fix=content.in_words(PurePosixPath(file.path).name),
    )


def _kind(file: InputFile) -> str:
    return f"{file.compression} {file.format}" if file.compression else file.format


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
    file = member.file
    with open_decompressed(file) as stream:
        if not member.start:  # a remote file is not fetched from its beginning for every range
            _refuse_others(stream, file, recognise_json)
        line = 1 + (newlines_before if member.start else 0)
        try:
            if member.start:
                line += _skip_begun_line(stream, member.start, fields.max_bytes)
            remaining = None if member.stop is None else member.stop - stream.tell()
            blocks = blocks_of_lines(stream, BLOCK_BYTES, remaining, fields.max_bytes)
            for i, block in enumerate(blocks):
                data = block.removeprefix(BYTE_ORDER_MARK) if i == member.start == 0 else block
                batch, newlines = parse_block(data, line, file.path, fields)
                yield batch
                line += newlines
        except LongLineError as error:
            if member.start:
                stream.seek(0)
                _refuse_others(stream, file, recognise_json)
            raise too_long(file.url, f"line {line + error.index:,}", fields) from None


def _refuse_others(
    stream: Any, file: InputFile, recognise: Callable[[bytes], Content | None]
) -> None:
    """Refuses what is of another format; the stream is at its beginning, and is so afterwards."""
    if file.compression is not None:
        head = stream.peek(HEAD_BYTES)
    else:
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
    content = recognise(head)
    if content is not None:
        raise _other_content(file, content)


def _skip_begun_line(stream: Any, start: int, limit: int) -> int:
    """Seeks to the first line that begins at `start` or later; returns the newlines passed."""
    stream.seek(start - 1)
    return int(len(rest_of_line(stream, limit)) > 1)


def _read_parquet(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_native(member.file.url) as stream:
        parquet = pq.ParquetFile(stream)
        metadata = parquet.metadata
        stop = metadata.num_row_groups if member.stop is None else member.stop
        groups = range(member.start, stop)
        first_row = 1 + sum(metadata.row_group(i).num_rows for i in range(member.start))
        rows = sum(metadata.row_group(i).num_rows for i in groups)
        size = sum(metadata.row_group(i).total_byte_size for i in groups)
        names = set(parquet.schema_arrow.names)
        about = filter(None, (fields.boundaries, fields.labels))
        needed = {*fields.of_document, *about}
        batches = parquet.iter_batches(
            batch_size=max(1, min(1 << 16, rows * BLOCK_BYTES // max(1, size))),
            row_groups=list(groups),
            columns=sorted({fields.id, *needed} & names) if needed <= names else None,
            use_threads=False,
        )
        yield from _column_batches(batches, member.file, fields, first_row)


def _read_arrow(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_native(member.file.url) as stream:
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
                at = error.where.removeprefix(file.path) if error.where else ""
                raise ExactcptError(
                    f"source {file.source!r}: {error.found}",
                    where=file.url + at,
                    expected=error.expected,
                    fix=error.fix,
                ) from None
            yield batch
            first_row += rows.num_rows


def _read_text(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    file = member.file
    with open_decompressed(file) as stream:
        data = stream.read(fields.max_bytes + 1)
    if len(data) > fields.max_bytes:
        raise too_long(file.url, "the whole file", fields)
    reason = _no_text(data)
    if reason is None:
        text = data.removeprefix(BYTE_ORDER_MARK)
        yield Batch(ids=pa.array([file.path]), content=Strings.of_texts([text]))
    else:
        line, why = reason
        yield Batch(
            ids=pa.array([], pa.string()),
            content=Strings.of_texts([]),
            rejected=[Rejected(file.path, "line", line, why)],
        )


def _read_delimited(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        _refuse_others(stream, member.file, recognise_lines)
        yield from batches_of(stream, member.file, fields)


def _read_one_by_one(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        yield from batches_of(stream, member.file, fields)


def batches_of(stream: Any, file: InputFile, fields: Fields) -> Iterator[Batch]:
    """The records of an open file, of a format whose reader finds them one by one."""
    return gather(ONE_BY_ONE[file.format](stream, file, fields), file.path, fields)


ONE_BY_ONE: dict[Format, Callable[[Any, InputFile, Fields], Iterator[Item]]] = {
    "csv": delimited.read_items,
    "tsv": delimited.read_items,
    "webdataset": webdataset.read_items,
    "wet": wet.read_items,
}


def _no_text(data: bytes) -> tuple[int, str] | None:
    """The line at which a file shows that it is no text, and why; None if it is."""
    content = recognise(data[:HEAD_BYTES])
    if content is not None:
        return 1, f"this seems to be {content.name}"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return data[: error.start].count(b"\n") + 1, "invalid UTF-8"
    return None


def _read_hub(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    tables = hub.read_shard(member.file.url, member.start)
    # Rows are counted from 1 in each shard, and ids must differ between shards.
    shard = replace(member.file, path=f"{member.file.path}#{member.start}")
    yield from _column_batches(tables, shard, fields, 1)


def column_names(file: InputFile) -> list[str]:
    """The columns of a file; none if its format has none.

    Raises:
        BadFileError: the file is not of its format.
    """
    try:
        if file.format == "hub":
            return next((table.schema.names for table in hub.read_shard(file.url, 0)), [])
        if file.format not in ("parquet", "arrow"):
            return []
        with open_input(file.url) as stream:
            if file.format == "parquet":
                return pq.ParquetFile(stream).schema_arrow.names
            try:
                return pa.ipc.open_file(stream).schema.names
            except pa.ArrowInvalid:
                stream.seek(0)
                return pa.ipc.open_stream(stream).schema.names
    except pa.ArrowException as error:
        raise _bad_file(file, error) from None


def _read_megatron(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    rows = megatron.read_rows(member.file, member.start, member.stop, fields)
    return _column_batches(rows, member.file, fields, member.start + 1)


def _read_datatrove(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    rows = datatrove.read_rows(member.file, member.start, member.stop, fields)
    return _column_batches(rows, member.file, fields, member.start + 1)


def _read_npy(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    rows = npy.read_rows(member.file, member.start, member.stop, fields)
    return _column_batches(rows, member.file, fields, member.start + 1)


def _read_mds(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    return _column_batches(mds.read_rows(member.file, fields), member.file, fields, 1)


READERS = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "text": _read_text,
    "csv": _read_delimited,
    "tsv": _read_delimited,
    "webdataset": _read_one_by_one,
    "wet": _read_one_by_one,
    "hub": _read_hub,
    "megatron": _read_megatron,
    "datatrove": _read_datatrove,
    "mds": _read_mds,
    "npy": _read_npy,
}
