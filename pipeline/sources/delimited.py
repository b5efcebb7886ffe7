"""CSV and TSV: a header with the names of the columns, then one row per record.

Values may be in double quotes, and then have line ends and quotes (`""`) in them, as RFC 4180 has
it. A row is rejected if it has more or fewer values than the header, or text after a quoted value.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...schemas.errors import ExactcptError
from ...schemas.sizes import plural
from .answers import UnusableError
from .compression import DamagedError
from .gathering import Item, text_item
from .lines import LongLineError, blocks_of_lines
from .listing import InputFile
from .records import Fields, too_long

__all__ = ["column_names", "read_items"]

SEPARATORS = {"csv": ",", "tsv": "\t"}
STEP_BYTES = 64 << 10
"""Read at a time: how much has been read for some records says how dense the file is."""
BYTE_ORDER_MARK = "\ufeff"
MALFORMED = "text after a quoted value, or a line end outside of quotes"
CUT_OFF = "unexpected end of data"
"""What the library says if nothing closes a quote."""

csv.field_size_limit((1 << 31) - 1)  # of the whole process; `_Lines` limits a record


def read_items(stream: Any, file: InputFile, fields: Fields) -> Iterator[Item]:
    """Yields the records of a file, which are the rows below its header.

    Raises:
        DamagedError: the file ends inside of quotes.
        ExactcptError: a column is missing or there are two of its name, or a record is too long.
    """
    rows = _rows(stream, file, fields)
    header = _header(rows)
    if not header:
        return
    places = {name: _place(name, header, file) for name in fields.of_document}
    key = _place(fields.id, header, file) if fields.id in header else None
    for row in rows:
        if isinstance(row, Item):
            yield row
        elif len(row) != len(header):
            values = plural(len(row), "value")
            yield Item.rejected(f"{values}, where the header has {len(header):,}")
        else:
            name = row[key] if key is not None else ""
            yield _item(name or None, {field: row[at] for field, at in places.items()}, fields)


def _item(name: str | None, values: Mapping[str, str], fields: Fields) -> Item:
    if fields.form is None:
        return text_item(name, values[fields.text].encode("utf-8", "surrogateescape"))
    try:
        "".join([name or "", *values.values()]).encode()
    except UnicodeError:
        return Item.rejected("invalid UTF-8")
    try:
        return Item(name, fields.form.pieces(values))
    except UnusableError as error:
        return Item.rejected(str(error))


def column_names(stream: Any, file: InputFile, fields: Fields) -> list[str]:
    """The names of the columns; none in an empty file.

    Raises:
        DamagedError, ExactcptError: as `read_items`.
    """
    return _header(_rows(stream, file, fields))


def _header(rows: Iterator[list[str] | Item]) -> list[str]:
    """The first row; empty if there is none."""
    first = next(rows, None)
    return first if isinstance(first, list) else []


def _rows(stream: Any, file: InputFile, fields: Fields) -> Iterator[list[str] | Item]:
    """Yields the header and all other rows; blank lines are none."""
    lines = _Lines(stream, fields.max_bytes)
    # Without `strict`, a file that ends inside of quotes would seem to be whole.
    reader = csv.reader(lines, delimiter=SEPARATORS[file.format], strict=True)
    number = 0
    while True:
        lines.held = 0
        try:
            row: list[str] | Item | None = next(reader, None)
        except LongLineError:
            where = f"row {number:,}" if number else "the header"
            raise too_long(file.url, where, fields) from None
        except csv.Error as error:
            if str(error) == CUT_OFF:
                raise DamagedError("it ends in the middle of a quoted value") from None
            if not number:
                raise DamagedError("its first line is no header") from None
            row = Item.rejected(MALFORMED)
        if row is None:
            return
        if row:
            yield row
            number += 1


class _Lines:
    """The lines of a stream, for the reader of the library, which asks for more inside of quotes.

    Attributes:
        held: the bytes that it has got for the record it is reading.
    """

    def __init__(self, stream: Any, limit: int) -> None:
        # A line that has more than this begins its block, so all records before it have been told.
        blocks = blocks_of_lines(stream, STEP_BYTES, None, limit + STEP_BYTES)
        self._lines = (line for block in blocks for line in io.BytesIO(block))
        self._limit = limit
        self._is_first = True
        self.held = 0

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.held += len(line)
        if self.held > self._limit + 1:  # the line's end does not count
            raise LongLineError
        # What is not UTF-8 becomes what can be told from all text, and its row is rejected.
        text = line.decode("utf-8", "surrogateescape")
        first, self._is_first = self._is_first, False
        return text.removeprefix(BYTE_ORDER_MARK) if first else text


def _place(name: str, header: Sequence[str], file: InputFile) -> int:
    found = header.count(name)
    if found == 1:
        return header.index(name)
    raise ExactcptError(
        f"source {file.source!r}: {'no column' if not found else f'{found:,} columns'} {name!r}",
        where=file.url,
        expected=f"one of its columns: {', '.join(header)}",
        fix="name the column with ,text=FIELD (or ,prompt=FIELD, ,answer=FIELD, ,context=FIELD, "
        ",id=FIELD) in the source"
        if not found
        else "rename the columns in the file",
    )
