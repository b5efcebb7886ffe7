"""CSV and TSV are read as Arrow reads them, and a bad row is told by its number."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pyarrow.csv as pv
import pytest
from corpora import BOM, COMPRESS, EXPECTED, TEXTS, bad, find, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.config import SourceConfig, TokenizeConfig
from exactcpt.pipeline.core.choices import Format
from exactcpt.pipeline.sources import delimited
from exactcpt.pipeline.sources.delimited import MALFORMED
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.sources.records import Fields, Rejected
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.pipeline.tokens.plan import plan_tokenize
from exactcpt.schemas.errors import ExactcptError, UsageError


def table(rows: Sequence[Sequence[str]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    text = io.StringIO(newline="")
    # Where lines end with "\n" alone, the library leaves "\r" without quotes.
    quoting = csv.QUOTE_MINIMAL if end == "\r\n" else csv.QUOTE_ALL
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue().encode()


DOCUMENTS = table([("other", "text", "id"), *(("", text, key) for (key, _), text in zip(
    EXPECTED, TEXTS, strict=True))])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.mark.parametrize("compression", ["", *COMPRESS])
@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_the_same_documents_as_in_other_formats(tmp_path, kind, compression):
    data = DOCUMENTS if kind == "csv" else DOCUMENTS.replace(b",", b"\t")
    path = tmp_path / f"a.{kind}{compression}"
    path.write_bytes(COMPRESS[compression](data) if compression else data)
    assert read_all(path) == EXPECTED
    assert read_all(path, split_bytes=10) == EXPECTED


values = st.text(st.sampled_from('ab",\t\r\n \0é'), max_size=8)


@given(
    rows=st.lists(st.tuples(values, values), max_size=6),
    delimiter=st.sampled_from([",", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from([b"", BOM]),
    block_bytes=st.integers(1, 30),
)
def test_what_another_reader_reads(folder, rows, delimiter, end, mark, block_bytes):
    path = folder / ("a.csv" if delimiter == "," else "a.tsv")
    data = mark + table([("id", "text"), *rows], delimiter, end)
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "STEP_BYTES", block_bytes)
        found = read_all(path)
    assert found == [
        (key or f"{path.name}:{n}", text.encode()) for n, (key, text) in enumerate(rows, 1)
    ]
    if not rows:
        return
    theirs = pv.read_csv(
        io.BytesIO(data),
        parse_options=pv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pv.ConvertOptions(column_types={"id": "string", "text": "string"}),
    )
    assert [text for _, text in found] == [text.encode() for text in theirs["text"].to_pylist()]


def test_bad_rows_are_told_by_their_number(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'id,text\r\n1,"two\nlines"\n\n2\n3,a,b\n4,\xff\n5,"a"b\n\xff,a\n6,a\rb\n7,last'
    )
    records, rejected = read(make_splits(find(path), 1))
    assert records == [("1", b"two\nlines"), ("7", b"last")]
    assert [(r.unit, r.at, r.reason) for r in rejected] == [
        ("row", 2, "1 value, where the header has 2"),
        ("row", 3, "3 values, where the header has 2"),
        ("row", 4, "invalid UTF-8"),
        ("row", 5, MALFORMED),
        ("row", 6, "invalid UTF-8"),
        ("row", 7, MALFORMED),
    ]
    assert rejected[0] == Rejected("a.csv", "row", 2, rejected[0].reason)


@given(cut=st.integers(1, 40))
def test_a_file_that_ends_inside_of_quotes(folder, cut):
    path = folder / "cut.csv"
    data = b'text\n"whole"\n"' + b"x" * 40
    path.write_bytes(data[: len(data) - 40 + cut])
    assert "it ends in the middle of a quoted value" in bad(path).found


def test_files_that_are_damaged_or_something_else(tmp_path):
    for name, data, says in (
        ("a.csv.gz", gzip.compress(DOCUMENTS)[:-9], "it ends in the middle of its gzip data"),
        ("b.csv", b'"a"b\n', "its first line is no header"),
        ("c.csv", DOCUMENTS.decode().encode("utf-16"), "it seems to be UTF-16 text"),
        ("d.csv", gzip.compress(DOCUMENTS), "it seems to be compressed with gzip"),
        ("e.csv", b"<!doctype html>", "it seems to be an HTML or XML page"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(BadFileError) as caught:
            read_all(tmp_path / name)
        assert says in caught.value.found


def test_empty_files(tmp_path):
    for name, data in (("a.csv", b""), ("b.csv", b"\n\n"), ("c.csv", b"id,text\n")):
        (tmp_path / name).write_bytes(data)
        assert read_all(tmp_path / name) == []


def test_columns_that_are_not_there(tmp_path):
    path = tmp_path / "a.csv"
    for header, says, expected in (
        (b"id;text", "no column 'text'", "one of its columns: id;text"),
        (b"text,text", "2 columns 'text'", "one of its columns: text, text"),
    ):
        path.write_bytes(header + b"\na,b\n")
        with pytest.raises(ExactcptError) as caught:
            read_all(path)
        assert caught.value.found == f"source 'books': {says}"
        assert caught.value.expected == expected
        assert not isinstance(caught.value, BadFileError)


@pytest.mark.parametrize(
    "rows", [b"a\n" + b"b" * 50, b'a\n"b' + b"\nb" * 50, b'a\n"' + b"\n" * 50], ids=repr
)
def test_rows_that_are_too_long(tmp_path, rows):
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + rows)
    with pytest.raises(ExactcptError, match="a record has more than 20 bytes") as caught:
        read(make_splits(find(path), 1), Fields(max_bytes=20))
    assert caught.value.where == f"{path}, row 2"
    path.write_bytes(b"text\n" + b"b" * 20 + b"\n" + b"b" * 20)
    assert len(read(make_splits(find(path), 1), Fields(max_bytes=20))[0]) == 2


@pytest.mark.parametrize("length", [21, delimited.STEP_BYTES, 3 * delimited.STEP_BYTES])
@pytest.mark.parametrize("before", [0, 1, 5000, 20_000])
def test_which_row_is_too_long(tmp_path, before, length):
    """Wherever the blocks end in which the file is read."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"text\n" + b"short\n" * before + b"b" * length + b"\nc\n")
    with pytest.raises(ExactcptError, match="a record has more than 20 bytes") as caught:
        read(make_splits(find(path), 1), Fields(max_bytes=20))
    assert caught.value.where == f"{path}, row {before + 1:,}"


@pytest.mark.parametrize(
    ("name", "option", "says"),
    [
        ("a.csv", {"tokens": "ids"}, "has tokens=FIELD, but is read as csv"),
        ("a.wet", {"text": "body"}, "has text=FIELD, but is read as wet"),
        ("a.tar", {"id": "key"}, "has id=FIELD, but is read as webdataset"),
    ],
)
def test_fields_that_a_format_does_not_have(data, tmp_path, name, option, says):
    (tmp_path / name).write_bytes(b"x")
    source = SourceConfig(name="a", pattern=str(tmp_path / name), **option)
    with pytest.raises(UsageError, match=says):
        plan_tokenize(TokenizeConfig(sources=(source,), tokenizer=str(data / "tokenizer.json")))


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_name_that_shows_no_format(tmp_path, kind: Format):
    (tmp_path / "part-0").write_bytes(b"id\ttext\n" if kind == "tsv" else b"id,text\n")
    assert read_all(tmp_path / "part-0", file_format=kind) == []
