"""Records from Arrow columns: of Parquet, of Arrow files, and of data sets of `datasets`."""

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...schemas.errors import ExactcptError
from .answers import Form, Piece, UnusableError
from .records import (
    Batch,
    Fields,
    Rejected,
    Strings,
    has_unknown_id,
    ids_by_number,
    too_long,
)

__all__ = ["batch_of_columns"]

MOST = (1 << 31) - 1
"""Values are kept as int32."""


def batch_of_columns(
    rows: pa.RecordBatch | pa.Table, file: str, fields: Fields, first_row: int
) -> Batch:
    """The documents of a record batch or table; rows with null or invalid UTF-8 are rejected.

    Args:
        rows: the rows.
        file: the file's name, for ids and rejected records.
        fields: which columns to read.
        first_row: number of the first row in the file, counted from 1.

    Raises:
        ExactcptError: the column is missing, there are two of its name, it is of a type that cannot
            be a document, or a document is too long.
        ArrowInvalid: the columns are corrupt.
    """
    if fields.form is not None:
        return _answers(rows, file, fields, fields.form, first_row)
    content = _content(rows, file, fields)
    ids = _ids(rows, file, fields)
    named = {"boundaries": fields.boundaries, "labels": fields.labels}
    about = {n: _about_rows(rows, column, file) for n, column in named.items() if column}
    reasons = _reasons(content, ids, fields)
    _refuse_long(content, file, fields, first_row)
    numbers = ids_by_number(file, first_row, rows.num_rows)
    if reasons:
        accepted = pa.array([reason is None for reason in reasons])
        ids, numbers, content = (column.filter(accepted) for column in (ids, numbers, content))
        about = {n: lists.filter(accepted) for n, lists in about.items()}
    return Batch(
        ids=pc.coalesce(ids, numbers),
        without_id=ids.null_count,
        content=Strings.of_arrow(content),
        boundaries=Strings.of_arrow(about["boundaries"]) if "boundaries" in about else None,
        labels=Strings.of_arrow(about["labels"]) if "labels" in about else None,
        rejected=[
            Rejected(file, "row", first_row + i, reason)
            for i, reason in enumerate(reasons)
            if reason is not None
        ],
    )


def _answers(
    rows: pa.RecordBatch | pa.Table, file: str, fields: Fields, form: Form, first_row: int
) -> Batch:
    """Documents in pieces, made row by row."""
    columns = {name: _of_answers(rows, name, file, form) for name in form.fields}
    ids = _ids(rows, file, fields)
    documents: list[list[Piece]] = []
    names: list[str | None] = []
    rejected: list[Rejected] = []
    for i in range(rows.num_rows):
        row = first_row + i
        try:
            pieces = form.pieces({name: column[i].as_py() for name, column in columns.items()})
            name = ids[i].as_py()
        except (UnusableError, UnicodeDecodeError) as error:
            reason = str(error) if isinstance(error, UnusableError) else "invalid UTF-8"
            rejected.append(Rejected(file, "row", row, reason))
            continue
        if sum(len(text) for text, _ in pieces) > fields.max_bytes:
            raise too_long(file, f"row {row:,}", fields)
        documents.append(pieces)
        names.append(name)
    numbers = ids_by_number(file, first_row, rows.num_rows)
    taken = set(range(first_row, first_row + rows.num_rows)) - {each.at for each in rejected}
    numbers = numbers.take(pa.array(sorted(at - first_row for at in taken), pa.int64()))
    found = pa.array(names, pa.string())
    return Batch.of_answers(
        documents,
        ids=pc.coalesce(found, numbers),
        rejected=rejected,
        without_id=found.null_count,
    )


def _of_answers(rows: pa.RecordBatch | pa.Table, name: str, file: str, form: Form) -> Any:
    """A column of texts, or of lists of messages."""
    if name not in rows.schema.names:
        raise ExactcptError(
            f"no column {name!r}",
            where=file,
            expected=f"one of its columns: {', '.join(rows.schema.names)}",
            fix="name the columns with ,prompt=FIELD, ,answer=FIELD and ,context=FIELD (or "
            ",messages=FIELD) in the source",
        )
    column: Any = _only(rows, name, file)
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    wanted = is_list and pa.types.is_struct(kind.value_type) if form.messages else _is_text(kind)
    if not wanted:
        raise ExactcptError(
            f"column {name!r} holds {kind}",
            where=file,
            expected="lists of messages with role and content" if form.messages else "strings",
            fix="name another column in the source",
        )
    return column


def _content(rows: pa.RecordBatch | pa.Table, file: str, fields: Fields) -> pa.Array:
    """The column of documents, as strings or as lists of int64."""
    name = fields.content
    if name not in rows.schema.names:
        raise ExactcptError(
            f"no column {name!r}",
            where=file,
            expected=f"one of its columns: {', '.join(rows.schema.names)}",
            fix="name the column with ,text=FIELD (or ,tokens=FIELD) in the source",
        )
    column = _only(rows, name, file)
    if fields.tokens is None and _is_text(column.type):
        return column.cast(pa.large_string()) if column.type != pa.string() else column
    if fields.tokens is not None and _is_list_of_integers(column.type):
        return _as_lists(column)
    raise ExactcptError(
        f"column {name!r} holds {column.type}",
        where=file,
        expected="strings" if fields.tokens is None else "lists of integers",
        fix="name another column with ,text=FIELD (or ,tokens=FIELD) in the source",
    )


def _as_lists(column: Any) -> Any:
    """A column of lists of integers as lists of int32 or int64."""
    narrow = column.type.value_type == pa.int32()
    return column.cast(pa.large_list(pa.int32() if narrow else pa.int64()), safe=False)


def _about_rows(rows: pa.RecordBatch | pa.Table, name: str, file: str) -> Any:
    """A column that says something about packed rows, as lists."""
    if name not in rows.schema.names:
        raise ExactcptError(
            f"no column {name!r}",
            where=file,
            expected=f"one of its columns: {', '.join(rows.schema.names)}",
            fix="give it in one column of that name, in all files",
        )
    column = _only(rows, name, file)
    if not _is_list_of_integers(column.type):
        raise ExactcptError(
            f"column {name!r} holds {column.type}",
            where=file,
            expected="lists of integers, one for each row of tokens",
            fix="rename the column, or leave it out, if it is about something else",
        )
    lists = _as_lists(column)
    values = lists.flatten()
    if lists.null_count or values.null_count:
        raise ExactcptError(f"column {name!r} has nulls", where=file, expected="lists of integers")
    for extreme in (pc.min(values).as_py(), pc.max(values).as_py()):
        if extreme is not None and abs(extreme) > MOST:
            raise ExactcptError(
                f"column {name!r} has {extreme:,}",
                where=file,
                expected=f"at least -{MOST:,} and at most {MOST:,}",
            )
    return lists


def _ids(rows: pa.RecordBatch | pa.Table, file: str, fields: Fields) -> pa.Array:
    """The column of ids as strings; null for rows without an id."""
    if fields.id not in rows.schema.names:
        return pa.nulls(rows.num_rows, pa.string())
    column = _whole(_only(rows, fields.id, file))
    if not (pa.types.is_integer(column.type) or _is_text(column.type)):
        raise ExactcptError(
            f"column {fields.id!r} holds {column.type}",
            where=file,
            expected="strings or integers",
            fix="name another column with ,id=FIELD in the source",
        )
    return column.cast(pa.string())


def _whole(column: Any) -> Any:
    """Whole numbers as integers: a column of integers with nulls comes from pandas as floats."""
    if pa.types.is_floating(column.type):
        with suppress(pa.ArrowInvalid):
            return column.cast(pa.int64())
    return column


def _only(rows: pa.RecordBatch | pa.Table, name: str, file: str) -> pa.Array:
    """The one column of a name, as one array without any encoding."""
    several = rows.schema.get_all_field_indices(name)
    if len(several) > 1:
        raise ExactcptError(
            f"{len(several)} columns have the name {name!r}",
            where=file,
            expected="one column of each name that is read",
            fix="rename the columns in the file, or name another one with ,text=FIELD, "
            ",tokens=FIELD or ,id=FIELD in the source",
        )
    return _plain(rows.column(several[0]))


def _plain(column: Any) -> Any:
    """One array of values as they are: no chunks, no type of an extension, no encoding."""
    _is_valid(column)  # raises if it is corrupt; casts and filters would not notice
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    while True:
        try:
            if isinstance(column, pa.ExtensionArray):
                column = column.storage
            elif pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            elif pa.types.is_list_view(column.type) or pa.types.is_large_list_view(column.type):
                column = _without_views(column)
            else:
                return column
        except pa.ArrowNotImplementedError:  # such as a dictionary of string views
            return column


def _without_views(column: Any) -> Any:
    """Views of lists as lists. Pyarrow's own cast makes arrays that are corrupt."""
    lengths = pc.list_value_length(column).fill_null(0).cast(pa.int64()).to_numpy()
    offsets: Any = pa.array(np.concatenate(([0], np.cumsum(lengths))))
    return pa.LargeListArray.from_arrays(offsets, column.flatten(), mask=column.is_null())


def _is_text(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_string_view,
        pa.types.is_null,
    )
    return any(test(kind) for test in tests)


def _is_list_of_integers(kind: Any) -> bool:
    tests = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
    )
    return any(test(kind) for test in tests) and pa.types.is_integer(kind.value_type)


def _refuse_long(content: Any, file: str, fields: Fields, first_row: int) -> None:
    """Refuses a document of too many bytes; a token id counts as four."""
    if fields.tokens is None:
        sizes = pc.binary_length(content)
    else:
        sizes = pc.multiply(pc.list_value_length(content), pa.scalar(4, pa.int64()))
    longest = pc.max(sizes).as_py()
    if longest is not None and longest > fields.max_bytes:
        row = first_row + pc.index(sizes, longest).as_py()
        raise too_long(file, f"row {row:,}", fields)


def _reasons(content: pa.Array, ids: pa.Array, fields: Fields) -> list[str | None]:
    """Why each row is rejected, None for accepted rows; an empty list if all are accepted."""
    if _reason(content, ids, fields) is None:
        return []
    return [_reason(content.slice(i, 1), ids.slice(i, 1), fields) for i in range(len(content))]


def _reason(content: pa.Array, ids: pa.Array, fields: Fields) -> str | None:
    """The first reason to reject some of the rows; None if there is none."""
    if content.null_count:
        return f"field {fields.content!r} is null"
    if not (_is_valid(content) and _is_valid(ids)):
        return "invalid UTF-8"
    if fields.tokens is None:
        return None
    lists: Any = content
    tokens = lists.flatten()
    if tokens.null_count:
        return f"field {fields.content!r} is not a list of integers"
    return fields.unknown_id if has_unknown_id(tokens.to_numpy(), fields) else None


def _is_valid(column: pa.Array | pa.ChunkedArray) -> bool:
    """Whether all strings are UTF-8.

    Raises:
        ArrowInvalid: the column has another fault, so it is corrupt.
    """
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error):
            raise
        return False
    return True
