import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DEEP, ODD_LINES, json_blocks

from exactcpt.pipeline.sources import jsonl
from exactcpt.pipeline.sources.jsonl import Record, parse_block, parse_line
from exactcpt.pipeline.sources.records import Batch, Fields, Rejected, Strings

TEXT = Fields()
TOKENS = Fields(tokens="tokens", largest_id=98)
TOO_DEEP = "malformed JSON, nested too deep to say more"
DEEP_ARRAY = b"[" * DEEP + b"]" * DEEP


def contents(strings: Strings) -> list[bytes | list[int]]:
    assert strings.offsets[0] == 0
    assert strings.offsets[-1] == len(strings.data)
    kind = strings.data.dtype
    assert kind in (np.uint8, np.int32)
    values = [strings[i] for i in range(len(strings))]
    return [v.tobytes() if kind == np.uint8 else v.tolist() for v in values]


def shown(batch: Batch) -> tuple[list[str], list[bytes | list[int]], list[Rejected]]:
    return batch.ids.to_pylist(), contents(batch.content), batch.rejected


def line_by_line(
    block: bytes, first_line: int, file: str, fields: Fields
) -> tuple[list[str], list[bytes | list[int]], list[Rejected]]:
    """What a block holds, straight from the definition of a line."""
    ids: list[str] = []
    found: list[bytes | list[int]] = []
    rejected: list[Rejected] = []
    for number, line in enumerate(block.split(b"\n"), first_line):
        record = parse_line(line, fields)
        if line.strip(b" \t\r") == b"":
            continue
        if isinstance(record, str):
            rejected.append(Rejected(file, "line", number, record))
        else:
            ids.append(f"{file}:{number}" if record.id is None else record.id)
            found.append(record.content)
    return ids, found, rejected


@pytest.mark.parametrize(
    "fields",
    [
        TEXT,
        TOKENS,
        Fields(text="other", id="text"),
        Fields(text="text", id="text"),
        Fields(tokens="tokens", id="tokens", largest_id=98),
    ],
    ids=repr,
)
@given(block=json_blocks(), first=st.integers(1, 10**6))
def test_a_block_is_what_its_lines_are(fields: Fields, block: bytes, first: int) -> None:
    batch, newlines = parse_block(block, first, "f.jsonl", fields)
    assert shown(batch) == line_by_line(block, first, "f.jsonl", fields)
    assert newlines == block.count(b"\n")


@pytest.mark.parametrize("odd", ODD_LINES, ids=repr)
@pytest.mark.parametrize("good", [b"", b'{"text":"good","tokens":[1]}\n'])
@pytest.mark.parametrize("fields", [TEXT, TOKENS], ids=["text", "tokens"])
def test_an_odd_line(fields: Fields, good: bytes, odd: bytes) -> None:
    for block in (good + odd, odd + b"\n" + good, good + odd + b"\n" + good):
        batch, newlines = parse_block(block, 1, "f", fields)
        assert shown(batch) == line_by_line(block, 1, "f", fields)
        assert newlines == block.count(b"\n")


RECORDS = st.fixed_dictionaries(
    {"text": st.text(st.characters(codec="utf-8"))},
    optional={
        "id": st.none() | st.text(st.characters(codec="utf-8")),
        "meta": st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.booleans()),
    },
)


@given(records=st.lists(RECORDS, min_size=1), ascii_only=st.booleans(), crlf=st.booleans())
def test_ordinary_blocks_take_the_fast_path(
    records: list[dict[str, object]], ascii_only: bool, crlf: bool
) -> None:
    newline = "\r\n" if crlf else "\n"
    block = newline.join(json.dumps(r, ensure_ascii=ascii_only) for r in records).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jsonl, "_parse_line_by_line", lambda *_: pytest.fail("the slow path"))
        batch, newlines = parse_block(block, 1, "f", TEXT)
    assert contents(batch.content) == [str(r["text"]).encode() for r in records]
    assert batch.ids.to_pylist() == [
        f"f:{n}" if r.get("id") is None else r["id"] for n, r in enumerate(records, 1)
    ]
    assert batch.rejected == []
    assert newlines == len(records) - 1


@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (b'{"text":"a","id":1}\n{"text":"b","id":2}\n', TEXT),
        (b'{"text":"a","id":null}\n', TEXT),
        (b'{"text":"a: NaN, [Inf]","x":"Infinity"}\n', TEXT),
        (b'{"text":"a","x":%b}\n' % DEEP_ARRAY, TEXT),
        (b'{"tokens":[1,2]}\n{"tokens":[]}\n', TOKENS),
    ],
)
def test_these_blocks_take_the_fast_path(
    monkeypatch: pytest.MonkeyPatch, block: bytes, fields: Fields
) -> None:
    monkeypatch.setattr(jsonl, "_parse_line_by_line", lambda *_: pytest.fail("the slow path"))
    batch, newlines = parse_block(block, 1, "f", fields)
    assert len(batch.content) == newlines == block.count(b"\n")


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"text":"a"}', (None, b"a")),
        (b' {"text" :\t"a"}\r', (None, b"a")),
        (b'{"text":""}', (None, b"")),
        (b'{"text":"a","id":"x"}', ("x", b"a")),
        (b'{"text":"a","id":""}', ("", b"a")),
        (b'{"text":"a","id":12}', ("12", b"a")),
        (b'{"text":"a","id":-0}', ("0", b"a")),
        (
            b'{"text":"a","id":123456789012345678901234567890}',
            ("123456789012345678901234567890", b"a"),
        ),
        (b'{"text":"a","id":null}', (None, b"a")),
        (b'{"text":"a","other":{"text":1,"text":2},"x":1,"x":2}', (None, b"a")),
        (rb'{"text":"\u0000\ud83d\ude00"}', (None, "\0\U0001f600".encode())),
        (rb'{"text":"a","other":"\ud800"}', (None, b"a")),
        (b'{"text":"a","other":1e999}', (None, b"a")),
        (b'{"text":"a","other":%b}' % (b"9" * 5000), (None, b"a")),
        (b'{"text":"a","id":"x","other":%b}' % DEEP_ARRAY, ("x", b"a")),
        (b'{"text":"a","id":3,"other":%b}' % DEEP_ARRAY, ("3", b"a")),
        (b'{"text":"NaN \\"Inf","other":%b}' % DEEP_ARRAY, (None, b'NaN "Inf')),
        (b'{"text":"}null","other":%b}' % DEEP_ARRAY, (None, b"}null")),
    ],
)
def test_accepted_lines(line: bytes, record: tuple[str | None, bytes]) -> None:
    assert parse_line(line, TEXT) == Record(*record)
    expected = "f:7" if record[0] is None else record[0]
    assert shown(parse_block(line, 7, "f", TEXT)[0]) == ([expected], [record[1]], [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text":"a"', "malformed JSON"),
        (b"{'text':'a'}", "malformed JSON"),
        (b'{"text":"a\tb"}', "malformed JSON"),
        (b'{"text":"a"}\0', "text after the JSON value"),
        (b'{"text":"a"}\0}', "text after the JSON value"),
        (b'{"text":"a"},', "text after the JSON value"),
        (b'{"text":"a",}', "malformed JSON"),
        (b'{"other":[1,],"text":"a"}', "malformed JSON"),
        (b'{"text":"a"}[', "text after the JSON value"),
        (b'{"text":"a"}null{"text":"b"}', "more than one JSON value on the line"),
        (b"null", "not a JSON object"),
        (b'{"text":"a","other":%b}null{}' % DEEP_ARRAY, TOO_DEEP),
        (b'{"text":"a","other":%b}\0' % DEEP_ARRAY, TOO_DEEP),
        (b'{"text":"a","other":%b}{}' % DEEP_ARRAY, TOO_DEEP),
        (b'\xef\xbb\xbf{"text":"a"}', "malformed JSON"),
        (b'{"text":"a","other":Inf}', "malformed JSON"),
        (b'{"text":"a","other":[NaN]}', "NaN is not JSON"),
        (b'{"text":"a","other":-Infinity}', "-Infinity is not JSON"),
        (b'{"text":"a","other":NaN', "malformed JSON"),
        (b'{"text":"a","text":"b"}', "field 'text' occurs more than once"),
        (rb'{"text":"a","te\u0078t":"b"}', "field 'text' occurs more than once"),
        (b'{"id":1,"text":"a","id":1}', "field 'id' occurs more than once"),
        (b'{"text":"a","other":%bNaN%b}' % (b"[" * DEEP, b"]" * DEEP), TOO_DEEP),
        (b'{"text":"a","other":%b}' % (b"[" * DEEP), TOO_DEEP),
        (b'{"other":%b}' % DEEP_ARRAY, "no field 'text'"),
        (b'{"text":"a"} {"text":"b"}', "more than one JSON value on the line"),
        (b'{"text":"\xff"}', "invalid UTF-8"),
        (b'{"text":"a","other":"\xed\xa0\x80"}', "invalid UTF-8"),
        (b'["a"]', "not a JSON object"),
        (b'{"id":"x"}', "no field 'text'"),
        (b'{"text":null}', "field 'text' is null"),
        (b'{"text":12}', "field 'text' is not a string"),
        (b'{"text":%b}' % (b"9" * 5000), "field 'text' is not a string"),
        (rb'{"text":"\ud800"}', "field 'text' has a lone surrogate"),
        (rb'{"text":"a","id":"\udc00"}', "field 'id' has a lone surrogate"),
        (b'{"text":"a","id":1.0}', "field 'id' is neither a string nor an integer"),
        (b'{"text":"a","id":true}', "field 'id' is neither a string nor an integer"),
    ],
)
def test_rejected_lines(line: bytes, reason: str) -> None:
    assert parse_line(line, TEXT) == reason
    good = b'{"text":"good"}\n'
    batch, _ = parse_block(good + line + b"\n" + good, 10, "f", TEXT)
    assert shown(batch) == (
        ["f:10", "f:12"],
        [b"good", b"good"],
        [Rejected("f", "line", 11, reason)],
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"[0,98]", [0, 98]),
        (b"[]", []),
        (b"[-0]", [0]),
        (b"[99]", "field 'tokens' has an id outside 0..98"),
        (b"[-1]", "field 'tokens' has an id outside 0..98"),
        (b"[2147483648]", "field 'tokens' has an id outside 0..98"),
        (b"[9223372036854775808]", "field 'tokens' has an id outside 0..98"),
        (b"[1,true]", "field 'tokens' is not a list of integers"),
        (b"[1.0]", "field 'tokens' is not a list of integers"),
        (b"[1,null]", "field 'tokens' is not a list of integers"),
        (b"[[1]]", "field 'tokens' is not a list of integers"),
        (b'"1 2"', "field 'tokens' is not a list of integers"),
        (b"null", "field 'tokens' is null"),
    ],
)
def test_tokens(value: bytes, expected: list[int] | str) -> None:
    line = b'{"tokens":%b}' % value
    batch, _ = parse_block(line, 1, "f", TOKENS)
    if isinstance(expected, str):
        assert (parse_line(line, TOKENS), batch.rejected[0].reason) == (expected, expected)
    else:
        assert parse_line(line, TOKENS) == Record(None, expected)
        assert contents(batch.content) == [expected]


def test_blank_lines_are_no_records_and_count() -> None:
    batch, _ = parse_block(b'\n \t\r\n{"text":"a"}\n\r\n\n{"text":"b"}\n\n', 1, "f", TEXT)
    assert shown(batch) == (["f:3", "f:6"], [b"a", b"b"], [])


def test_a_deep_line_is_the_same_from_deep_in_a_program() -> None:
    line = b'{"text":"a","other":%bNaN%b}' % (b"[" * 700, b"]" * 700)

    def nested(levels: int) -> Record | str:
        return nested(levels - 1) if levels else parse_line(line, TEXT)

    assert isinstance(nested(0), str)
    assert isinstance(nested(400), str)


MANY = 50_000
OPEN, CLOSE = b"[" * MANY, b"]" * MANY


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text":"a","x":%b}' % (OPEN + CLOSE), Record(None, b"a")),
        (b'{"text":"a","x":"%b"}' % OPEN, Record(None, b"a")),
        (b'{"text":%b}' % (OPEN + CLOSE), TOO_DEEP),
        (b'{"text":"a","x":%b' % OPEN, TOO_DEEP),
        (b'{"a":' * MANY, TOO_DEEP),
        (b'{"a":' * MANY + b"1" + b"}" * MANY, "no field 'text'"),
        (OPEN, "not a JSON object"),
        (OPEN + CLOSE, "not a JSON object"),
        (b'{"text":"a","x":[%b]}' % b",".join([b"[1]"] * MANY), Record(None, b"a")),
        # A search for the end of each string would take hours.
        (b'{"text":"' + rb"\"[" * MANY, "malformed JSON"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_lines_of_very_many_brackets(line: bytes, expected: Record | str) -> None:
    assert parse_line(line, TEXT) == expected
    batch, _ = parse_block(line, 1, "f", TEXT)
    if isinstance(expected, str):
        assert [record.reason for record in batch.rejected] == [expected]
    else:
        assert contents(batch.content) == [expected.content]


@pytest.mark.parametrize("depth", range(jsonl.MAX_DEPTH - 3, jsonl.MAX_DEPTH + 4))
def test_nothing_changes_where_the_nesting_becomes_deep(depth: int) -> None:
    line = b'{"text":"a","id":"x","x":%b}' % (b"[" * depth + b"]" * depth)
    assert parse_line(line, TEXT) == Record("x", b"a")


@given(block=json_blocks())
def test_documents_without_an_id_are_counted(block: bytes) -> None:
    for batch in (
        parse_block(block, 1, "f", TEXT)[0],
        jsonl._parse_line_by_line(block, 1, "f", TEXT),
    ):
        numbered = [i for i in batch.ids.to_pylist() if i.startswith("f:")]
        assert batch.without_id == len(numbered)


class TestStrings:
    @given(st.lists(st.text(st.characters(codec="utf-8"))), st.data())
    def test_a_slice_of_an_arrow_array(self, texts: list[str], data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(texts)))
        size = data.draw(st.integers(0, len(texts) - start))
        expected = [text.encode() for text in texts[start : start + size]]
        for kind in (pa.string(), pa.large_string()):
            array = pa.array(texts, kind).slice(start, size)
            assert contents(Strings.of_arrow(array)) == expected

    @given(st.lists(st.lists(st.integers(0, 2**31 - 1))), st.data())
    def test_a_slice_of_a_list_array(self, ids: list[list[int]], data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(ids)))
        size = data.draw(st.integers(0, len(ids) - start))
        for kind in (pa.list_(pa.int32()), pa.large_list(pa.int64())):
            array = pa.array(ids, kind).slice(start, size)
            assert contents(Strings.of_arrow(array)) == ids[start : start + size]

    @given(st.lists(st.tuples(st.binary(), st.booleans())))
    def test_selected_values(self, values: list[tuple[bytes, bool]]) -> None:
        strings = Strings.of_texts([value for value, _ in values])
        kept = strings.select(np.array([keep for _, keep in values], bool))
        assert contents(kept) == [value for value, keep in values if keep]
        assert kept.lengths.tolist() == [len(value) for value, keep in values if keep]

    @given(st.lists(st.lists(st.integers(0, 2**31 - 1))))
    def test_lists_of_ids(self, ids: list[list[int]]) -> None:
        assert contents(Strings.of_ids(ids)) == ids
