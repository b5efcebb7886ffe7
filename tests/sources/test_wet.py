"""WET files: the text of web pages, in records of WARC."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest
from archives import page, record
from corpora import COMPRESS, EXPECTED, bad, find, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import wet
from exactcpt.pipeline.sources.records import Fields
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import ExactcptError

INFO = record(b"Software-Info: x\r\n", "warcinfo")
PAGES = [page(key, text) for key, text in EXPECTED]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wet")


@pytest.mark.parametrize("compression", ["", *COMPRESS])
@pytest.mark.parametrize("step", [1, 7, 1 << 16])
def test_the_same_documents_as_in_other_formats(tmp_path, monkeypatch, compression, step):
    monkeypatch.setattr(wet, "STEP_BYTES", step)
    data = INFO + b"".join(PAGES)
    path = tmp_path / f"a.warc.wet{compression}"
    path.write_bytes(COMPRESS[compression](data) if compression else data)
    assert read_all(path) == EXPECTED


def test_a_member_per_record(tmp_path):
    path = tmp_path / "a.warc.wet.gz"
    path.write_bytes(b"".join(map(gzip.compress, [INFO, *PAGES])))
    assert read_all(path) == EXPECTED
    [file] = find(path)
    assert (file.format, file.compression) == ("wet", "gzip")


@given(texts=st.lists(st.binary(max_size=30) | st.just(b"\r\n\r\nWARC/1.0\r\n"), max_size=5))
def test_any_bytes_can_be_a_text(folder, texts: Sequence[bytes]):
    path = folder / "any.wet"
    path.write_bytes(b"".join(page(f"p{n}", text) for n, text in enumerate(texts, 1)))
    records, rejected = read(make_splits(find(path), 1))
    is_text = [text.decode("utf-8", "replace").encode() == text for text in texts]
    assert records == [(f"p{n}", text) for n, text in enumerate(texts, 1) if is_text[n - 1]]
    assert [(r.unit, r.at, r.reason) for r in rejected] == [
        ("row", n, "invalid UTF-8") for n, good in enumerate(is_text, 1) if not good
    ]


def test_ids(tmp_path):
    path = tmp_path / "a.wet"
    path.write_bytes(page("one", b"a") + record(b"b"))
    for fields, ids in (
        (Fields(), ["one", "a.wet:2"]),
        (Fields(id="WARC-Target-URI"), ["https://example.org/one", "a.wet:2"]),
    ):
        assert [key for key, _ in read(make_splits(find(path), 1), fields)[0]] == ids


WHOLE = INFO + page("one", b"some text") + page("two", b"more")
ENDS = {0, len(INFO), len(INFO) + len(page("one", b"some text"))}
"""Where a file without compression may end without being known to be cut off."""


@given(at=st.integers(0, len(WHOLE) - 1).filter(lambda at: at not in ENDS))
def test_a_file_that_is_cut_off_anywhere(folder, at):
    path = folder / "cut.wet"
    path.write_bytes(WHOLE[:at])
    assert "it ends in the middle of a record" in bad(path).found


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>" + b"x" * 99 + b"\r\n\r\n", "no record of WARC where one should begin"),
        (b"x" * 3000, "no record of WARC where one should begin"),
        (WHOLE.replace(b"WARC/1.0", b"HTTP/1.1"), "no record of WARC where one should begin"),
        (WHOLE.replace(b"Content-Length: 9", b"Content-Length: x"), "does not say how long it is"),
        (WHOLE.replace(b"Content-Length: 9", b"Content-Length: -9"), "not say how long it is"),
        (WHOLE.replace(b"Content-Length: 9", b"Content-Length: 8"), "not end where it says"),
        (WHOLE.replace(b"Content-Length: 9", b"Content-Length: 9" + b"0" * 17), "in the middle"),
    ],
    ids=lambda value: repr(value)[-30:],
)
def test_damaged_files(tmp_path, monkeypatch, data, says):
    monkeypatch.setattr(wet, "MOST_HEADER_BYTES", 1000)
    path = tmp_path / "a.wet"
    path.write_bytes(data)
    if b"9000" in data:  # of a record that is not wanted, so that it is no document
        path.write_bytes(data.replace(b"conversion", b"response"))
    assert says in bad(path).found


def test_texts_that_are_too_long(tmp_path):
    path = tmp_path / "a.wet"
    path.write_bytes(record(b"x" * 99, "warcinfo") + page("a", b"x" * 20) + page("b", b"x" * 21))
    with pytest.raises(ExactcptError, match="more than 20 bytes") as caught:
        read(make_splits(find(path), 1), Fields(max_bytes=20))
    assert caught.value.where == f"{path}, row 2"


def test_a_file_of_warc_by_another_name(tmp_path):
    path = tmp_path / "a.warc"
    path.write_bytes(WHOLE)
    with pytest.raises(ExactcptError) as caught:
        find(path)
    assert caught.value.fix == "add ,format=wet to the source: it seems to be a WARC file"


def test_a_compressed_file_of_warc_by_another_name(tmp_path):
    path = tmp_path / "a.warc.gz"
    path.write_bytes(COMPRESS[".gz"](b"".join(page(key, text) for key, text in EXPECTED)))
    with pytest.raises(ExactcptError) as caught:
        find(path)
    assert caught.value.fix == (
        "add ,format=F to the source if it is one of jsonl, text, csv, tsv, webdataset, wet, mds; "
        "otherwise decompress it"
    )
    assert read_all(path, file_format="wet") == EXPECTED
