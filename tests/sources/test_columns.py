from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources.columns import batch_of_columns
from exactcpt.pipeline.sources.records import Batch, Fields, Rejected
from exactcpt.schemas.errors import ExactcptError

TEXT = Fields()
TOKENS = Fields(tokens="tokens", largest_id=98)
UNUSABLE = b"\xff\xfe"

texts = st.none() | st.text(st.characters(codec="utf-8"), max_size=5)
STRING_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int32(), pa.string()),
]


def shown(batch: Batch) -> tuple[list[str], list[Any], list[Rejected]]:
    values = [batch.content[i] for i in range(len(batch.content))]
    found = [v.tobytes() if v.dtype == np.uint8 else v.tolist() for v in values]
    return batch.ids.to_pylist(), found, batch.rejected


def as_text(values: list[bytes | None], kind: pa.DataType) -> pa.Array:
    """An array of strings, valid or not, which only Parquet and Arrow files can hold."""
    array = pa.array(values, pa.large_binary() if kind == pa.large_string() else pa.binary())
    return pa.Array.from_buffers(kind, len(values), array.buffers(), array.null_count)


@given(
    rows=st.lists(st.tuples(texts, texts)),
    kinds=st.tuples(st.sampled_from(STRING_TYPES), st.sampled_from(STRING_TYPES)),
    chunks=st.booleans(),
    data=st.data(),
)
def test_rows_of_text(
    rows: list[tuple[str | None, str | None]],
    kinds: tuple[pa.DataType, pa.DataType],
    chunks: bool,
    data: st.DataObject,
) -> None:
    columns = {
        "text": pa.array([text for text, _ in rows], pa.string()).cast(kinds[0]),
        "id": pa.array([i for _, i in rows], pa.string()).cast(kinds[1]),
        "other": pa.nulls(len(rows)),
    }
    start = data.draw(st.integers(0, len(rows)))
    table = pa.table(columns) if chunks else pa.record_batch(columns)
    batch = batch_of_columns(table.slice(start), "f.parquet", TEXT, 1 + start)
    expected = [(n, text, i) for n, (text, i) in enumerate(rows, 1) if n > start]
    assert shown(batch) == (
        [f"f.parquet:{n}" if i is None else i for n, text, i in expected if text is not None],
        [text.encode() for _, text, _ in expected if text is not None],
        [
            Rejected("f.parquet", "row", n, "field 'text' is null")
            for n, text, _ in expected
            if text is None
        ],
    )


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
@given(
    rows=st.lists(st.tuples(*[st.none() | st.sampled_from([b"a", b"", b"\xc3\xa9", UNUSABLE])] * 2))
)
def test_invalid_utf8_rejects_its_row(
    kind: pa.DataType, rows: list[tuple[bytes | None, bytes | None]]
) -> None:
    table = pa.table(
        {"text": as_text([t for t, _ in rows], kind), "id": as_text([i for _, i in rows], kind)}
    )
    batch = batch_of_columns(table, "f", TEXT, 1)
    assert batch.rejected == [
        Rejected("f", "row", n, "field 'text' is null" if text is None else "invalid UTF-8")
        for n, (text, i) in enumerate(rows, 1)
        if text is None or UNUSABLE in (text, i)
    ]
    assert shown(batch)[1] == [t for t, i in rows if t is not None and UNUSABLE not in (t, i)]


INTEGERS = [pa.uint8(), pa.int16(), pa.int32(), pa.int64(), pa.uint64()]


@given(
    rows=st.lists(st.none() | st.lists(st.none() | st.integers(0, 120), max_size=3)),
    item=st.sampled_from(INTEGERS),
    is_large=st.booleans(),
    data=st.data(),
)
def test_rows_of_tokens(
    rows: list[list[int | None] | None], item: pa.DataType, is_large: bool, data: st.DataObject
) -> None:
    def reason(row: list[int | None] | None) -> str | None:
        if row is None:
            return "field 'tokens' is null"
        if None in row:
            return "field 'tokens' is not a list of integers"
        return TOKENS.unknown_id if any(i is not None and i > 98 for i in row) else None

    kind = pa.large_list(item) if is_large else pa.list_(item)
    start = data.draw(st.integers(0, len(rows)))
    batch = batch_of_columns(
        pa.table({"tokens": pa.array(rows, kind)}).slice(start), "f", TOKENS, 5
    )
    reasons = [(n, row, reason(row)) for n, row in enumerate(rows[start:], 5)]
    assert shown(batch) == (
        [f"f:{n}" for n, _, why in reasons if why is None],
        [row for _, row, why in reasons if why is None],
        [Rejected("f", "row", n, why) for n, _, why in reasons if why is not None],
    )
    assert batch.content.data.dtype == np.int32


@pytest.mark.parametrize("wrong", [2**31, 2**32 + 1, 2**63, 2**64 - 1])
def test_ids_beyond_int32_are_no_tokens(wrong: int) -> None:
    rows = pa.table({"tokens": pa.array([[1], [wrong], [2]], pa.list_(pa.uint64()))})
    fields = Fields(tokens="tokens")
    assert shown(batch_of_columns(rows, "f", fields, 1)) == (
        ["f:1", "f:3"],
        [[1], [2]],
        [Rejected("f", "row", 2, "field 'tokens' has an id outside 0..2147483647")],
    )


def test_lists_of_fixed_size() -> None:
    rows = pa.table({"tokens": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2))})
    assert shown(batch_of_columns(rows, "f", TOKENS, 1))[1] == [[1, 2], [3, 4]]


def test_views_of_lists() -> None:
    """In any order, with gaps and shared values, and of a slice."""
    sizes: Any = pa.array([2, 0, 3, 1, 2], pa.int32())
    offsets: Any = pa.array([3, 0, 0, 4, 3], pa.int32())
    missing: Any = pa.array([False, True, False, False, False])
    values = pa.array([1, 2, 3, 4, 5, 6], pa.int32())
    views: Any = pa.ListViewArray
    lists = views.from_arrays(offsets, sizes, values, mask=missing)
    expected = [[4, 5], [1, 2, 3], [5], [4, 5]]
    for start, found in ((0, expected), (2, expected[1:])):
        rows = pa.table({"tokens": lists}).slice(start)
        assert shown(batch_of_columns(rows, "f", TOKENS, 1))[1] == found


def test_integer_ids_become_strings() -> None:
    for kind in (pa.int64(), pa.float64()):  # pandas makes floats of integers with nulls
        rows = pa.table({"text": ["a", "b", "c"], "id": pa.array([3, None, -1], kind)})
        assert shown(batch_of_columns(rows, "f", TEXT, 1))[0] == ["3", "f:2", "-1"]


def test_a_missing_column_names_those_there_are() -> None:
    with pytest.raises(ExactcptError) as caught:
        batch_of_columns(pa.table({"body": ["a"], "id": ["x"]}), "f.parquet", TEXT, 1)
    assert str(caught.value) == (
        "no column 'text'\n"
        "  where:    f.parquet\n"
        "  expected: one of its columns: body, id\n"
        "  fix:      name the column with ,text=FIELD (or ,tokens=FIELD) in the source"
    )


@pytest.mark.parametrize(
    ("table", "fields", "found"),
    [
        ({"text": [1]}, TEXT, "column 'text' holds int64"),
        ({"tokens": ["a"]}, TOKENS, "column 'tokens' holds string"),
        ({"tokens": [[1.0]]}, TOKENS, "column 'tokens' holds list<item: double>"),
        ({"text": ["a"], "id": [1.5]}, TEXT, "column 'id' holds double"),
    ],
)
def test_columns_of_another_type(table: dict[str, Any], fields: Fields, found: str) -> None:
    with pytest.raises(ExactcptError) as caught:
        batch_of_columns(pa.table(table), "f.parquet", fields, 1)
    assert caught.value.found == found


NULL_SECOND = ["a", None, "c"]
KINDS = {
    "text": [
        *STRING_TYPES,
        pa.dictionary(pa.uint8(), pa.large_string()),
        pa.json_(),
        pa.opaque(pa.string(), "type", "vendor"),
    ],
    "tokens": [
        pa.list_(pa.uint8()),
        pa.large_list(pa.int16()),
        pa.list_(pa.int32(), 1),
        pa.list_view(pa.int32()),
        pa.large_list_view(pa.uint16()),
    ],
    "id": [
        *STRING_TYPES,
        pa.int8(),
        pa.uint64(),
        pa.dictionary(pa.int8(), pa.int32()),
        pa.float16(),
        pa.float64(),
    ],
}
OTHER_KINDS = [
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(2),
    pa.bool_(),
    pa.float16(),
    pa.float64(),
    pa.decimal128(5, 2),
    pa.date32(),
    pa.time64("us"),
    pa.timestamp("s"),
    pa.duration("s"),
    pa.struct({"a": pa.string()}),
    pa.map_(pa.string(), pa.int32()),
    pa.list_(pa.string()),
    pa.list_(pa.float32()),
    pa.list_(pa.list_(pa.int32())),
    pa.list_view(pa.float32()),
    pa.dictionary(pa.int32(), pa.binary()),
    pa.run_end_encoded(pa.int32(), pa.string()),
    pa.uuid(),
]


def column(kind: pa.DataType, role: str) -> pa.Array:
    values: list[Any] = {"text": ["a", None, "c"], "tokens": [[1], None, [3]]}.get(role, [])
    if role == "id":
        integral = kind if not pa.types.is_dictionary(kind) else kind.value_type
        of_numbers = pa.types.is_integer(integral) or pa.types.is_floating(kind)
        values = [1, None, 3] if of_numbers else NULL_SECOND
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_dictionary(kind):
        return pa.array(values, kind.value_type).dictionary_encode().cast(kind)
    return pa.array(values, kind)


@pytest.mark.parametrize(
    ("role", "kind"), [(role, kind) for role, kinds in KINDS.items() for kind in kinds], ids=str
)
def test_every_type_that_can_be_read(role: str, kind: pa.DataType) -> None:
    rows = pa.table({"text": ["a", "b", "c"]} | {role: column(kind, role)})
    batch = batch_of_columns(rows, "f", TOKENS if role == "tokens" else TEXT, 1)
    ids, content, rejected = shown(batch)
    if role == "id":
        assert ids in (["a", "f:2", "c"], ["1", "f:2", "3"])
        assert batch.without_id == 1
    else:
        assert ids == ["f:1", "f:3"]
        assert content in ([b"a", b"c"], [[1], [3]])
        assert [record.reason for record in rejected] == [f"field {role!r} is null"]


@pytest.mark.parametrize("role", ["text", "tokens", "id"])
@pytest.mark.parametrize("kind", OTHER_KINDS, ids=str)
def test_every_other_type_is_named(kind: pa.DataType, role: str) -> None:
    """Also where there is no value of it. Only of floats it depends: whole numbers are ids."""
    if role == "id" and pa.types.is_floating(kind):
        return
    empty = (
        pa.ExtensionArray.from_storage(kind, pa.nulls(3, kind.storage_type))
        if isinstance(kind, pa.BaseExtensionType)
        else pa.nulls(3, kind)
    )
    rows = pa.table({"text": ["a", "b", "c"]} | {role: empty})
    with pytest.raises(ExactcptError, match=f"column '{role}' holds "):
        batch_of_columns(rows, "f", TOKENS if role == "tokens" else TEXT, 1)


@pytest.mark.parametrize(
    ("names", "fields", "twice"),
    [
        (["text", "text", "id"], TEXT, "text"),
        (["id", "text", "id"], TEXT, "id"),
        (["tokens", "tokens", "id"], TOKENS, "tokens"),
    ],
)
def test_two_columns_of_one_name(names: list[str], fields: Fields, twice: str) -> None:
    rows = pa.table([pa.array(["a"])] * 3, names=names)
    with pytest.raises(ExactcptError) as caught:
        batch_of_columns(rows, "f.parquet", fields, 1)
    assert str(caught.value) == (
        f"2 columns have the name {twice!r}\n"
        "  where:    f.parquet\n"
        "  expected: one column of each name that is read\n"
        "  fix:      rename the columns in the file, or name another one with ,text=FIELD, "
        ",tokens=FIELD or ,id=FIELD in the source"
    )


def test_two_columns_of_a_name_that_is_not_read() -> None:
    rows = pa.table([pa.array(["a"])] * 3, names=["x", "text", "x"])
    assert shown(batch_of_columns(rows, "f", TEXT, 1))[1] == [b"a"]


def test_corrupt_columns() -> None:
    """Found before anything trusts them, which could end the process."""
    offsets = pa.py_buffer(np.array([0, 1, 10**9, 3], np.int32).tobytes())
    strings = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"abc")])
    codes = pa.array([0, 10**6, 1], pa.int32())
    encoded = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b"]), safe=False)
    for column in (strings, encoded):
        with pytest.raises(pa.ArrowInvalid):
            batch_of_columns(pa.table({"text": column}), "f", TEXT, 1)
