import gzip
import os
from pathlib import Path

import fsspec
import pytest
from corpora import (
    find,
    jsonl,
    listing,
    paths,
    put,
    read_all,
)

from exactcpt.pipeline.sources.listing import identity
from exactcpt.schemas.errors import ExactcptError


class TestFinding:
    @pytest.fixture
    def corpus(self, tmp_path: Path) -> Path:
        for name in (
            "b.jsonl",
            "a.jsonl",
            "sub/c.jsonl",
            "sub/deep/d.ndjson",
            "notes",
            ".x.jsonl",
        ):
            (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "corpus" / name).write_bytes(jsonl(name))
        (tmp_path / "corpus" / ".hidden").mkdir()
        (tmp_path / "corpus" / ".hidden" / "e.jsonl").write_bytes(jsonl("e"))
        return tmp_path / "corpus"

    @pytest.mark.parametrize(
        ("pattern", "found"),
        [
            ("", ["a.jsonl", "b.jsonl", "sub/c.jsonl", "sub/deep/d.ndjson"]),
            ("/", ["a.jsonl", "b.jsonl", "sub/c.jsonl", "sub/deep/d.ndjson"]),
            ("/sub", ["c.jsonl", "deep/d.ndjson"]),
            ("/*.jsonl", ["a.jsonl", "b.jsonl"]),
            ("/[b-z].jsonl", ["b.jsonl"]),
            ("/?.jsonl", ["a.jsonl", "b.jsonl"]),
            ("/**/*.jsonl", ["a.jsonl", "b.jsonl", "sub/c.jsonl"]),
            ("/s*/*.jsonl", ["sub/c.jsonl"]),
            ("/sub/*.jsonl", ["c.jsonl"]),
            ("/a.jsonl", ["a.jsonl"]),
            ("/.x.jsonl", [".x.jsonl"]),
            ("/.hidden", ["e.jsonl"]),
        ],
    )
    @pytest.mark.parametrize("place", ["local", "relative", "file", "memory"])
    def test_patterns(
        self,
        corpus: Path,
        memory: str,
        monkeypatch: pytest.MonkeyPatch,
        place: str,
        pattern: str,
        found: list[str],
    ) -> None:
        fsspec.filesystem("memory").put(f"{corpus}/", "/corpus/", recursive=True)
        monkeypatch.chdir(corpus.parent)
        base = {"local": corpus, "relative": "corpus", "file": f"file://{corpus}", "memory": memory}
        files = find(f"{base[place]}{pattern}")
        assert paths(files) == found
        for file in files:
            assert file.url.startswith("memory:///corpus/" if place == "memory" else f"{corpus}/")
        assert [i for i, _ in read_all(f"{base[place]}{pattern}")] == ["d0"] * len(found)

    def test_another_working_directory_is_another_place(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.jsonl").write_bytes(jsonl(name))
            monkeypatch.chdir(tmp_path / name)
            assert read_all("a.jsonl") == [("d0", name.encode())]

    @pytest.mark.parametrize("name", ["with, comma.jsonl", "what?.jsonl", "[1].jsonl", "a*b.jsonl"])
    def test_a_name_that_looks_like_a_pattern(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(jsonl("a"))
        (tmp_path / "1.jsonl").write_bytes(jsonl("b"))
        assert paths(find(tmp_path / name)) == [name]

    def test_links(self, tmp_path: Path) -> None:
        """The hub's cache is a folder of links to files; people link folders."""
        (tmp_path / "blobs").mkdir()
        (tmp_path / "blobs" / "0123").write_bytes(jsonl("a"))
        os.utime(tmp_path / "blobs" / "0123", (1, 1))
        (tmp_path / "set" / "sub").mkdir(parents=True)
        (tmp_path / "set" / "a.jsonl").symlink_to("../blobs/0123")
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "b.jsonl").write_bytes(jsonl("b"))
        (tmp_path / "set" / "other").symlink_to("../other")
        (tmp_path / "set" / "sub" / "again").symlink_to("..")
        assert paths(find(tmp_path / "set")) == ["a.jsonl", "other/b.jsonl"]
        assert paths(find(tmp_path / "set" / "*.jsonl")) == ["a.jsonl"]
        assert paths(find(tmp_path / "set" / "*" / "b.jsonl")) == ["other/b.jsonl"]
        assert paths(find(tmp_path / "set" / "a.jsonl")) == ["a.jsonl"]
        assert [text for _, text in read_all(tmp_path / "set")] == [b"a", b"b"]

    def test_a_link_to_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").symlink_to("nowhere")
        for pattern in (tmp_path, tmp_path / "*.jsonl"):
            with pytest.raises(ExactcptError) as caught:
                find(pattern)
            assert caught.value.found == "a link points to nothing"
            assert caught.value.where == str(tmp_path / "a.jsonl")

    def test_a_name_that_is_not_utf8(self, tmp_path: Path) -> None:
        (tmp_path / os.fsdecode(b"caf\xe9.jsonl")).write_bytes(jsonl("a"))
        with pytest.raises(ExactcptError, match="the name of a file is not UTF-8"):
            find(tmp_path)

    @pytest.mark.parametrize(
        ("pattern", "there"),
        [
            ("{}/*.jsn", "{} has: .hidden, .x.jsonl, a.jsonl, b.jsonl, notes, sub"),
            ("{}/c.jsonl", "{} has: .hidden, .x.jsonl, a.jsonl, b.jsonl, notes, sub"),
            ("{}/a.jsonl/b", "{}/a.jsonl has: a.jsonl"),
            ("{}/sub/*.txt", "{}/sub has: c.jsonl, deep"),
            ("{}/none/x.jsonl", "{}/none does not exist"),
        ],
    )
    def test_nothing_matches(self, corpus: Path, pattern: str, there: str) -> None:
        with pytest.raises(ExactcptError) as caught:
            find(pattern.format(corpus))
        assert str(caught.value) == (
            "source 'books' matches no file\n"
            f"  where:    {pattern.format(corpus)}\n"
            "  expected: a file, a folder with files of a known format, "
            "or a glob that matches some\n"
            f"  fix:      check the path; {there.format(corpus)}"
        )

    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        """A typical data set: data beside its description, and files that nobody can read."""
        for name in ("README.md", "b.jsonl", "sub/a.jsonl.gz", "c.xls", "d.jsonl.lz4", ".hidden"):
            (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
            data = gzip.compress(jsonl("a")) if name.endswith("gz") else jsonl("a")
            (tmp_path / "set" / name).write_bytes(data)
        return tmp_path / "set"

    @pytest.mark.parametrize("place", ["local", "memory"])
    def test_what_is_left_out_is_told(self, mixed: Path, memory: str, place: str) -> None:
        fsspec.filesystem("memory").put(f"{mixed}/", "/corpus/", recursive=True)
        base = mixed if place == "local" else memory
        found = listing(base)
        assert paths(found.files) == ["b.jsonl", "sub/a.jsonl.gz"]
        assert found.warnings == (
            "source 'books' is read as jsonl; 3 files are left out: README.md, c.xls, d.jsonl.lz4",
        )
        assert listing(f"{base}/*") == found
        found = listing(f"{base}/[Rb]*", "text")
        assert paths(found.files) == ["README.md"]
        assert found.warnings == ("source 'books' is read as text; 1 file is left out: b.jsonl",)
        assert listing(f"{base}/*.jsonl").warnings == ()
        for n in range(3):
            put(f"{base}/{n}.bz2", b"")
        assert (
            listing(base)
            .warnings[0]
            .endswith("; 6 files are left out: 0.bz2, 1.bz2, 2.bz2 and 3 more")
        )

    def test_several_formats(self, mixed: Path) -> None:
        (mixed / "e.txt").write_text("e")
        (mixed / "f.parquet").touch()
        with pytest.raises(ExactcptError) as caught:
            find(mixed)
        assert str(caught.value) == (
            "source 'books' has files of several formats: 2 jsonl (b.jsonl, sub/a.jsonl.gz), "
            "1 parquet (f.parquet), 2 text (README.md, e.txt)\n"
            f"  where:    {mixed}\n"
            "  expected: one format per source\n"
            "  fix:      add ,format=F to read the files of one format, or give each format "
            "its own source with a glob such as *.txt"
        )
        assert paths(find(mixed, "jsonl")) == ["b.jsonl", "sub/a.jsonl.gz"]
        assert [i for i, _ in read_all(mixed / "*.txt")] == ["e.txt"]

    def test_nothing_matches_among_many(self, tmp_path: Path) -> None:
        for n in range(14):
            (tmp_path / f"{n:02}.xls").touch()
        with pytest.raises(ExactcptError, match=r"09\.xls and 4 more$"):
            find(tmp_path)

    @pytest.mark.parametrize("name", ["a.data", "a.jsonl.lz4", "a", "a.parquet.gz"])
    def test_a_name_without_a_known_format(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(jsonl("a"))
        with pytest.raises(ExactcptError) as caught:
            find(tmp_path / name)
        assert str(caught.value) == (
            "source 'books': the name of a file does not show its format\n"
            f"  where:    {tmp_path / name}\n"
            "  expected: a name that ends in .jsonl, .ndjson, .json, .parquet, .arrow, .txt, "
            ".text, .md, .csv, .tsv, .tar, .wet, .bin, .idx, .ds, .mds, .npy (.gz, .zst, .bz2 or "
            ".xz may follow those of jsonl, text, csv, tsv, webdataset, wet, mds)\n"
            "  fix:      add ,format=F to the source, where F is one of jsonl, parquet, arrow, "
            "text, csv, tsv, webdataset, wet, hub, megatron, datatrove, mds, npy"
        )

    @pytest.mark.parametrize(
        ("name", "data", "fix"),
        [
            ("a.rows", b"text\nwords\n", "add ,format=F to the source, where F is one of jsonl"),
            ("a", b"PAR1\x15", "add ,format=parquet to the source: it seems to be a Parquet file"),
            (
                "a",
                gzip.compress(b"a", mtime=0),
                "compressed with gzip: if that is so, give its name",
            ),
            ("a", b"PK\x03\x04", "it seems to be a zip archive: unpack it"),
            ("a", "text".encode("utf-16"), "iconv -f UTF-16 -t UTF-8 a > NEW"),
        ],
    )
    def test_advice_looks_at_the_first_bytes(
        self, tmp_path: Path, memory: str, name: str, data: bytes, fix: str
    ) -> None:
        (tmp_path / name).write_bytes(data)
        put(f"{memory}/{name}", data)
        for place in (tmp_path, memory):
            with pytest.raises(ExactcptError) as caught:
                find(f"{place}/{name}")
            assert fix in (caught.value.fix or "")

    def test_a_format_that_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.data").write_bytes(jsonl("a"))
        (tmp_path / "b.gz").write_bytes(gzip.compress(jsonl("b")))
        assert [text for _, text in read_all(tmp_path, file_format="jsonl")] == [b"a", b"b"]
        assert paths(find(tmp_path / "*.data", "text")) == ["a.data"]

    def test_a_pattern_that_is_no_glob(self, memory: str) -> None:
        put(f"{memory}/a.jsonl", b"")
        with pytest.raises(ExactcptError, match="is not alone between two slashes") as caught:
            find(f"{memory}/a**/b.jsonl")
        assert caught.value.expected == "such as DIR/**/*.jsonl"

    def test_upper_case_suffixes(self, tmp_path: Path) -> None:
        (tmp_path / "A.JSONL.GZ").write_bytes(gzip.compress(jsonl("a")))
        assert read_all(tmp_path) == [("d0", b"a")]

    def test_listings_are_fresh(self, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[object] = []
        fs = type(fsspec.filesystem("memory"))
        monkeypatch.setattr(fs, "invalidate_cache", lambda *_: calls.append(1))
        put(f"{memory}/a.jsonl", jsonl("a"))
        find(memory)
        assert calls

    def test_a_rewritten_file_has_another_stamp(self, memory: str) -> None:
        put(f"{memory}/a.jsonl", jsonl("a"))
        [before] = find(memory)
        put(f"{memory}/a.jsonl", jsonl("b"))
        [after] = find(memory)
        assert before.stamp != after.stamp


@pytest.mark.parametrize("inode", [None, 0], ids=["inodes", "no inodes"])
def test_names_of_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inode: int | None
) -> None:
    """Also on a drive that says of all files that their inode is 0."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_bytes(jsonl(name))
    (tmp_path / "link.jsonl").symlink_to("a.jsonl")
    files = find(tmp_path)
    stat = Path.stat

    def without_inode(path: Path, **options: bool) -> os.stat_result:
        fields = list(stat(path, **options))
        return os.stat_result([fields[0], inode, *fields[2:]])

    if inode is not None:
        monkeypatch.setattr(Path, "stat", without_inode)
    a, b, link = map(identity, files)
    assert a == link
    assert a != b


@pytest.mark.parametrize(
    ("pattern", "is_hub"),
    [("org/web", True), ("org/web@main:en", True), ("org/web.jsonl", False), ("a/b/c", False)],
)
def test_what_may_be_a_data_set_of_the_hub(pattern, is_hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ExactcptError, match="matches no file") as caught:
        find(pattern)
    assert ("add ,format=hub" in str(caught.value)) == is_hub
