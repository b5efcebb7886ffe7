"""WebDataset archives: samples by the names of their members; nothing is unpacked."""

import json
import tarfile
from pathlib import Path

import pytest
from archives import archive
from corpora import BOM, COMPRESS, EXPECTED, bad, find, read, read_all
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import gathering, webdataset
from exactcpt.pipeline.sources.reading import BadFileError, read_member
from exactcpt.pipeline.sources.records import Fields
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import ExactcptError


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


MEMBERS = [
    member
    for key, text in EXPECTED
    for member in ((f"{key}.jpg", b"picture"), (f"{key}.txt", text))
]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


@pytest.mark.parametrize("compression", ["", *COMPRESS])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_the_same_documents_as_in_other_formats(tmp_path, compression, form):
    data = archive(MEMBERS, form)
    path = tmp_path / f"a.tar{compression}"
    path.write_bytes(COMPRESS[compression](data) if compression else data)
    assert read_all(path) == EXPECTED


def test_batches_of_any_size(tmp_path, monkeypatch):
    path = written(tmp_path / "a.tar", archive(MEMBERS))
    monkeypatch.setattr(gathering, "MOST_RECORDS", 7)
    assert read_all(path) == EXPECTED


@pytest.mark.parametrize(
    ("members", "fields", "expected"),
    [
        ([("a/b.v1.txt", b"x"), ("a/b.txt", b"y")], {}, [("a/b", b"y")]),
        ([("b.txt", BOM + b"x")], {}, [("b", b"x")]),
        ([("b.json", b'{"text":\n"x","id":7}')], {}, [("b", b"x")]),
        ([("b.json", b'{"text":"j"}'), ("b.txt", b"t")], {}, [("b", b"t")]),
        ([("b.json", b'{"body":"j"}'), ("b.txt", b"t")], {"text": "body"}, [("b", b"j")]),
        ([("b.en.txt", b"e"), ("b.txt", b"t")], {"text": "en.txt"}, [("b", b"e")]),
        ([("../x.txt", b"x"), ("/y.txt", b"y")], {}, [("../x", b"x"), ("/y", b"y")]),
        ([("b.txt", b""), ("c.txt", b"c")], {}, [("b", b""), ("c", b"c")]),
        ([("x" * 300 + ".txt", b"x")], {}, [("x" * 300, b"x")]),
    ],
)
def test_what_the_document_of_a_sample_is(tmp_path, members, fields, expected):
    path = written(tmp_path / "a.tar", archive(members))
    assert read(make_splits(find(path), 1), Fields(**fields)) == (expected, [])


def test_token_ids(tmp_path):
    data = json.dumps({"ids": [1, 2, 300]}).encode()
    path = written(tmp_path / "a.tar", archive([("b.txt", b"t"), ("b.json", data)]))
    [split] = make_splits(find(path), 1)
    [batch] = read_member(split.members[0], Fields(tokens="ids"))
    assert batch.content[0].tolist() == [1, 2, 300]
    assert batch.ids.to_pylist() == ["b"]


def test_samples_that_cannot_be_used(tmp_path):
    members = [
        ("a.jpg", b"x"),
        ("b.txt", b"\xff"),
        ("c.txt", b"x"),
        ("c.txt", b"y"),
        ("d.json", b"{"),
        ("e\udcff.txt", b"x"),
        ("f.txt", b"good"),
    ]
    path = written(tmp_path / "a.tar", archive(members, tarfile.GNU_FORMAT))
    records, rejected = read(make_splits(find(path), 1))
    assert records == [("f", b"good")]
    assert [(r.at, r.reason) for r in rejected] == [
        (1, "no .txt and no .json"),
        (2, "invalid UTF-8"),
        (3, "two members with the suffix .txt"),
        (4, ".json: malformed JSON"),
        (5, "invalid UTF-8"),
    ]


def test_members_that_are_no_files_are_passed_over(tmp_path):
    (tmp_path / "secret").write_text("secret")
    others = [
        special("a.txt", tarfile.SYMTYPE, str(tmp_path / "secret")),
        special("b.txt", tarfile.LNKTYPE, "c.txt"),
        special("d.txt", tarfile.CHRTYPE),
        special("e.txt", tarfile.FIFOTYPE),
        special("f.txt", tarfile.DIRTYPE),
    ]
    path = written(tmp_path / "a.tar", archive([*others, ("c.txt", b"text")]))
    before = sorted(tmp_path.rglob("*"))
    assert read_all(path) == [("c", b"text")]
    assert sorted(tmp_path.rglob("*")) == before


WHOLE = archive([("a.txt", b"x" * 700), ("b.txt", b"y" * 10)], tarfile.USTAR_FORMAT)
ENDS = 512 + 1024 + 512 + 512
"""The bytes before the blocks of zeros."""


@given(at=st.integers(0, ENDS))
def test_an_archive_that_is_cut_off_anywhere(folder, at):
    path = written(folder / "cut.tar", WHOLE[:at])
    with pytest.raises(BadFileError):
        read_all(path)


@given(at=st.integers(0, 511), block=st.sampled_from([0, 512 + 1024]), value=st.integers(1, 255))
def test_a_damaged_header(folder, at, block, value):
    """What is not in a checksum is the padding behind the fields, and the checksum's own end."""
    data = bytearray(WHOLE)
    data[block + at] ^= value
    path = written(folder / "damaged.tar", bytes(data))
    try:
        found = read_all(path)
    except BadFileError:
        return
    assert [key for key, _ in found] == ["a", "b"]


def test_damage_behind_the_last_member(tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(COMPRESS[".gz"](WHOLE)[:-4])
    assert "it ends in the middle of its gzip data" in bad(path).found


@pytest.mark.parametrize(("suffix", "compress"), [("", bytes), (".gz", COMPRESS[".gz"])])
def test_archives_that_are_joined(tmp_path, suffix, compress):
    """The library stops at the end of the first, and the documents of the others would be lost."""
    joined = archive([("a.txt", b"x")]) + archive([("b.txt", b"y")])
    path = written(tmp_path / f"a.tar{suffix}", compress(joined))
    assert "something follows the end of the archive" in bad(path).found
    padded = archive([("a.txt", b"x")]) + bytes(1 << 20)
    written(path, compress(padded))
    assert read_all(path) == [("a", b"x")]


def described(facts: dict[str, str]) -> bytes:
    """An archive of a member about which a header of PAX says something."""
    info = tarfile.TarInfo("a.txt")
    info.pax_headers = facts
    return archive([info], tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (described({"GNU.sparse.map": "0,x", "GNU.sparse.size": "3"}), "the archive is damaged"),
        (described({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}), "the archive is damaged"),
        (described({"size": "-1536"}), "a member of the archive has -1,536 bytes"),
        (special("x", tarfile.XHDTYPE).tobuf() * 2000 + WHOLE, "the archive is damaged"),
    ],
    ids=["map", "sparse", "size", "nested"],
)
def test_headers_that_the_library_does_not_check(tmp_path, data, says):
    assert says in bad(written(tmp_path / "a.tar", data)).found


def test_headers_of_any_size_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MOST_HEADER_BYTES", 1000)
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = written(tmp_path / "a.tar", archive([("x" * 2000 + ".txt", b"x")], form))
        assert "a header of the archive has 2,0" in bad(path).found


def test_members_that_are_too_long(tmp_path):
    members = [("a.jpg", b"x" * 90), ("a.txt", b"x" * 20), ("b.txt", b"x" * 21)]
    path = written(tmp_path / "a.tar", archive(members))
    with pytest.raises(ExactcptError, match="more than 20 bytes") as caught:
        read(make_splits(find(path), 1), Fields(max_bytes=20))
    assert caught.value.where == f"{path}, member b.txt"


def test_an_archive_by_another_name(tmp_path):
    path = written(tmp_path / "a.data", archive(MEMBERS))
    with pytest.raises(ExactcptError) as caught:
        find(path)
    assert caught.value.fix == (
        "add ,format=webdataset to the source: it seems to be a tar archive"
    )
    assert read_all(path, file_format="webdataset") == EXPECTED
