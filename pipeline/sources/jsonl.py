"""JSON Lines: a line parser defines what is accepted, and a fast path agrees with it.

`parse_line` is the definition. `parse_block` gives a block of many lines to Arrow's JSON reader,
which is much faster but differs in known ways: one bad line makes it fail on the whole block, and
it accepts two objects on a line, NaN and infinity, and invalid UTF-8. So its result counts only for
blocks in which none of this can occur; every other block is parsed line by line.
"""

import json
import re
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj
from numpy.typing import NDArray

from .answers import Piece, UnusableError
from .records import Batch, Fields, Rejected, Strings, has_unknown_id, ids_by_number

__all__ = ["Record", "parse_block", "parse_line"]


class Record(NamedTuple):
    """An accepted record; `id` is None if the record has no id."""

    id: str | None
    content: bytes | list[int] | list[Piece]


class _Reject(Exception):  # noqa: N818
    """The reason why a line is rejected."""


def parse_line(line: bytes, fields: Fields) -> Record | str:
    """Parses one line of a JSON Lines file: the record, or the reason why it is rejected.

    A line is accepted if it is UTF-8 and one JSON object that has the document's field, a string
    that can be encoded as UTF-8 or a list of integers. Its id is a string or an integer; if it is
    missing or null, the record has no id. A record with two documents or two ids is rejected.
    With a form, the content is the pieces that it makes of the record.
    Reasons depend neither on the interpreter nor on how much of its stack is used.
    """
    try:
        value = _load(line, fields)
        return Record(_id_of(value, fields), _content_of(value, fields))
    except (_Reject, UnusableError) as rejected:
        return str(rejected)


def _load(line: bytes, fields: Fields) -> dict[str, Any]:
    """The fields of a line's object."""
    try:
        text = line.decode("utf-8").strip(_SPACE)
    except UnicodeDecodeError:
        raise _Reject("invalid UTF-8") from None
    if _nests_deep(line):
        return _load_deep(line, fields)
    value, end = _decode(text)
    rest = text[end:].lstrip(_SPACE)
    if rest:
        is_json = _lenient_end(rest) is not None
        raise _Reject(
            "more than one JSON value on the line" if is_json else "text after the JSON value"
        )
    if not isinstance(value, tuple):
        raise _Reject("not a JSON object")
    names = [name for name, _ in value]
    for name in (*fields.of_document, fields.id):
        if names.count(name) > 1:
            raise _Reject(f"field {name!r} occurs more than once")
    return dict(value)


def _decode(text: str) -> tuple[Any, int]:
    """The value at the beginning of a text, and where it ends; objects are tuples of pairs."""
    for decoder in (_DECODER, _LONG_INTEGERS_DECODER):
        try:
            return decoder.raw_decode(text)
        except json.JSONDecodeError:
            raise _Reject("malformed JSON") from None
        except _Constant as name:
            is_json = _lenient_end(text) is not None
            raise _Reject(f"{name} is not JSON" if is_json else "malformed JSON") from None
        except ValueError:  # an integer with more digits than Python converts
            continue
    raise AssertionError("floats have no limit of digits")


def _lenient_end(text: str) -> int | None:
    """Where the value at the beginning of a text ends, NaN and infinity allowed."""
    try:
        return _LENIENT_DECODER.raw_decode(text)[1]
    except ValueError:
        return None


class _Constant(Exception):  # noqa: N818
    """NaN or an infinity, which Python accepts and JSON does not have."""


def _refuse_constant(name: str) -> None:
    raise _Constant(name)


_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=tuple)
_LONG_INTEGERS_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=lambda digits: int(digits) if len(digits) < 100 else float(digits),
    object_pairs_hook=tuple,
)
_LENIENT_DECODER = json.JSONDecoder(parse_int=float)
MAX_DEPTH = 200
"""Levels of nesting that are left to Python's recursion; its limit depends on the interpreter."""
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
"""A string, also one that does not end: searching for its end at every quote would be quadratic."""


def _nests_deep(line: bytes) -> bool:
    """Whether more brackets are open at once, outside strings, than Python should follow."""
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    bare = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    opened = np.isin(bare, _OPENING).astype(np.int64) - np.isin(bare, _CLOSING)
    return bool(np.cumsum(opened).max() > MAX_DEPTH)


_OPENING, _CLOSING = (np.frombuffer(brackets, np.uint8) for brackets in (b"[{", b"]}"))


def _load_deep(line: bytes, fields: Fields) -> dict[str, Any]:
    """The fields of an object that nests too deep for Python's recursion; Arrow's reader iterates.

    In JSON that Arrow accepts, a capital N or I outside strings belongs to NaN or infinity.
    """
    if not line.lstrip(_SPACE.encode()).startswith(b"{"):
        raise _Reject("not a JSON object")
    if fields.form is not None:
        raise _Reject(f"nested in more than {MAX_DEPTH} levels")
    rows = _read_rows(line, fields, others="ignore")
    if rows is None or len(rows.content) != 1 or re.search(rb"[NI]", _STRING.sub(b"", line)):
        raise _Reject("malformed JSON, nested too deep to say more")
    found = {fields.id: rows.ids[0].as_py(), fields.content: rows.content[0].as_py()}
    return {name: value for name, value in found.items() if value is not None}


def _id_of(value: dict[str, Any], fields: Fields) -> str | None:
    found = value.get(fields.id)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if found is None:
        return None
    if not isinstance(found, str):
        raise _Reject(f"field {fields.id!r} is neither a string nor an integer")
    _utf8(found, fields.id)
    return found


def _content_of(value: dict[str, Any], fields: Fields) -> bytes | list[int] | list[Piece]:
    if fields.form is not None:
        return fields.form.pieces(value)
    name = fields.content
    if name not in value:
        raise _Reject(f"no field {name!r}")
    found = value[name]
    if found is None:
        raise _Reject(f"field {name!r} is null")
    if fields.tokens is None:
        if not isinstance(found, str):
            raise _Reject(f"field {name!r} is not a string")
        return _utf8(found, name)
    if not isinstance(found, list) or any(type(i) is not int for i in found):
        raise _Reject(f"field {name!r} is not a list of integers")
    if found and not 0 <= min(found) <= max(found) <= fields.largest_id:
        raise _Reject(fields.unknown_id)
    return found


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise _Reject(f"field {name!r} has a lone surrogate") from None


def parse_block(block: bytes, first_line: int, file: str, fields: Fields) -> tuple[Batch, int]:
    """Parses whole lines; the last one may lack its newline.

    Args:
        block: the bytes of the lines.
        first_line: number of the block's first line in the file, counted from 1.
        file: the file's name, for ids and rejected records.
        fields: which fields of a record to read.

    Returns:
        The records, and how many newlines there are.
    """
    fast = fields.form is None
    batch = _parse_with_arrow(block, first_line, file, fields) if fast else None
    if batch is None:
        return _parse_line_by_line(block, first_line, file, fields), block.count(b"\n")
    return batch, len(batch.ids) - (not block.endswith(b"\n"))


def _parse_line_by_line(block: bytes, first_line: int, file: str, fields: Fields) -> Batch:
    ids: list[str] = []
    without_id = 0
    contents: list[Any] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(block.split(b"\n"), first_line):
        if not line.strip(b" \t\r"):
            continue
        record = parse_line(line, fields)
        if isinstance(record, str):
            rejected.append(Rejected(file, "line", number, record))
            continue
        without_id += record.id is None
        ids.append(record.id if record.id is not None else f"{file}:{number}")
        contents.append(record.content)
    others: dict[str, Any] = {
        "ids": pa.array(ids, pa.string()),
        "rejected": rejected,
        "without_id": without_id,
    }
    if fields.form is not None:
        return Batch.of_answers(contents, **others)
    joined = Strings.of_texts(contents) if fields.tokens is None else Strings.of_ids(contents)
    return Batch(content=joined, **others)


def _parse_with_arrow(block: bytes, first_line: int, file: str, fields: Fields) -> Batch | None:
    """The fast path; None if it might differ from the line parser."""
    starts = _plain_lines(block)
    if starts is None:
        return None
    # Arrow refuses NaN and infinity where it reads a string or an integer. So the numbers have to
    # be looked at only if there are other fields, which Arrow tells at the first one.
    row = _read_rows(block, fields, others="error")
    if row is None and not _misread_numbers(block, starts, fields):
        row = _read_rows(block, fields, others="ignore")
    if row is None or len(row.content) != len(starts) or row.content.null_count:
        return None
    content = Strings.of_arrow(row.content)
    if fields.tokens is not None and has_unknown_id(content.data, fields):
        return None
    ids, without_id = row.ids, row.ids.null_count
    if without_id:
        ids = pc.coalesce(ids, ids_by_number(file, first_line, len(starts)))
    return Batch(ids=ids, content=content, without_id=without_id)


class _Rows(NamedTuple):
    ids: pa.Array
    content: pa.Array


def _read_rows(block: bytes, fields: Fields, *, others: Literal["error", "ignore"]) -> _Rows | None:
    """Reads a block with Arrow, ids as strings; None if Arrow fails, or at other fields if told to.

    The block's first value must not be null: Arrow would end the process.
    """
    content_type = pa.string() if fields.tokens is None else pa.list_(pa.int32())
    for id_type in (pa.string(), pa.int64()):
        schema = pa.schema({fields.id: id_type, fields.content: content_type})
        try:
            reader: Any = pa.BufferReader(block)
            table = pj.read_json(
                reader,
                read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=schema, unexpected_field_behavior=others
                ),
            )
            ids = _one_chunk(table[fields.id]).cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        content = _one_chunk(table[fields.content])
        has_null_id = fields.tokens is not None and content.values.null_count
        return None if has_null_id else _Rows(ids, content)
    return None


def _one_chunk(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _plain_lines(block: bytes) -> NDArray[np.int64] | None:
    """The offsets of the lines; None unless all are UTF-8 and begin and end with a brace.

    Such a line holds at least one object, so as many rows as lines means one object per line.
    """
    if not block or len(block) >= 1 << 31 or not _is_utf8(block):
        return None
    data = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(data == ord("\n"))
    starts = np.concatenate(([0], newlines + 1))
    last = np.concatenate((newlines - 1, [len(data) - 1]))
    if starts[-1] == len(data):
        starts, last = starts[:-1], last[:-1]
    last = np.where(data[last] == ord("\r"), last - 1, last)
    braces = (data[starts] == ord("{")) & (data[last] == ord("}"))
    return starts if braces.all() else None


def _is_utf8(block: bytes) -> bool:
    whole = np.array([0, len(block)], np.int64)
    buffers = [None, pa.py_buffer(whole.tobytes()), pa.py_buffer(block)]
    try:
        pa.Array.from_buffers(pa.large_string(), 1, buffers).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


_BEFORE_NUMBER = np.isin(np.arange(256), np.frombuffer(b":,[- \t\r\n", np.uint8))
_AFTER_NUMBER = np.isin(np.arange(256), np.frombuffer(b",]} \t\r\n", np.uint8))


def _misread_numbers(block: bytes, starts: NDArray[np.int64], fields: Fields) -> bool:
    """Whether a line has NaN or infinity as a value, which Arrow accepts and JSON does not.

    The words also occur in texts, so a line in which one stands where a number could is parsed.
    """
    data = np.frombuffer(block, np.uint8)
    found = [_number_words(data, *words) for words in ((b"NaN",), (b"Inf", b"Infinity"))]
    suspects = np.unique(np.searchsorted(starts, np.concatenate(found), side="right") - 1)
    ends = np.append(starts[1:], len(block))
    return any(
        isinstance(parse_line(block[starts[i] : ends[i]], fields), str) for i in suspects.tolist()
    )


def _number_words(data: NDArray[np.uint8], *words: bytes) -> NDArray[np.int64]:
    """The offsets of words between characters that can surround a JSON number.

    Args:
        data: the bytes of a block, which begins and ends with a brace.
        words: each begins with the one before it.
    """
    at = np.flatnonzero(data == words[0][0])
    found: list[NDArray[np.int64]] = []
    for word, before in zip(words, (words[0][:1], *words), strict=False):
        at = at[at + len(word) < len(data)]
        for i in range(len(before), len(word)):
            at = at[data[at + i] == word[i]]
        found.append(at[_BEFORE_NUMBER[data[at - 1]] & _AFTER_NUMBER[data[at + len(word)]]])
    return np.concatenate(found)
