import gzip
import io
import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.choices import Format
from exactcpt.pipeline.files.storage import RemoteReadError
from exactcpt.pipeline.sources import hub
from exactcpt.pipeline.sources import reading as sources
from exactcpt.pipeline.sources.listing import InputFile, Listing, Source, find_files
from exactcpt.pipeline.sources.reading import BadFileError, read_member, scan
from exactcpt.pipeline.sources.records import Batch, Fields, Rejected, Strings
from exactcpt.pipeline.sources.splits import Member, Split, make_splits
from exactcpt.schemas.errors import ExactcptError, UsageError

TEXT = Fields()
BOM = b"\xef\xbb\xbf"
Records = list[tuple[str, bytes]]


def find(pattern: object, file_format: Format | None = None) -> list[InputFile]:
    return listing(pattern, file_format).files


def listing(pattern: object, file_format: Format | None = None) -> Listing:
    return find_files(Source(name="books", pattern=str(pattern), fields=TEXT, format=file_format))


def paths(files: list[InputFile]) -> list[str]:
    return [file.path for file in files]


def read(splits: list[Split], fields: Fields = TEXT) -> tuple[Records, list[Rejected]]:
    """All records of the splits, read as a job does it."""
    records: Records = []
    rejected: list[Rejected] = []
    members = [member for split in splits for member in split.members]
    newlines: dict[str, dict[int, int]] = {}
    for file in {m.file.url: m.file for m in members if m.file.bytes is not None}.values():
        newlines[file.url] = scan(file, [m.start for m in members if m.file == file]).newlines
    for member in members:
        before = newlines.get(member.file.url, {}).get(member.start, 0)
        for batch in read_member(member, fields, before):
            texts = [batch.content[i].tobytes() for i in range(len(batch.content))]
            records += zip(batch.ids.to_pylist(), texts, strict=True)
            rejected += batch.rejected
    return records, rejected


def read_all(
    pattern: object, split_bytes: int = 1 << 30, file_format: Format | None = None
) -> Records:
    records, rejected = read(make_splits(find(pattern, file_format), split_bytes))
    assert rejected == []
    return records


def bad(pattern: object) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        read_all(pattern)
    assert caught.value.where == find(pattern)[0].url
    assert caught.value.found.startswith("a file cannot be read to its end: ")
    assert caught.value.fix == "restore the file, or leave such files out with --on-bad-file skip"
    return caught.value


def jsonl(*texts: str, first: int = 0) -> bytes:
    return b"".join(
        json.dumps({"text": text, "id": f"d{n}"}).encode() + b"\n"
        for n, text in enumerate(texts, first)
    )


TEXTS = [f"text number {n} " + "x" * (n % 7) for n in range(60)]
EXPECTED: Records = [(f"d{n}", text.encode()) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For Hypothesis, whose examples share it."""
    return tmp_path_factory.mktemp("sources")


@pytest.fixture
def memory() -> Iterator[str]:
    yield "memory://corpus"
    fsspec.filesystem("memory").rm("/corpus", recursive=True)


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)  # pyright: ignore


class TestByteRanges:
    """Any way of splitting a file gives the same records with the same numbers."""

    lines = st.sampled_from(
        [
            b'{"text":"a"}',
            b'{"text":"a longer one","id":"x"}',
            BOM + b'{"text":"a"}',
            *(b"", b" ", b"{", b"\r"),
        ]
    ) | st.text("é\r", max_size=3).map(lambda text: json.dumps({"text": text}).encode())

    @given(
        lines=st.lists(lines, max_size=8),
        end=st.sampled_from([b"", b"\n", b"\r\n"]),
        mark=st.sampled_from([b"", BOM]),
        split_bytes=st.integers(1, 80),
        block_bytes=st.integers(1, 60),
    )
    def test_split_anywhere(
        self,
        folder: Path,
        lines: list[bytes],
        end: bytes,
        mark: bytes,
        split_bytes: int,
        block_bytes: int,
    ) -> None:
        path = folder / "split.jsonl"
        content = mark + b"\n".join(lines) + end
        path.write_bytes(content)
        expected: Records = []
        rejected = []
        for number, line in enumerate(content.removeprefix(BOM).split(b"\n"), 1):
            record = sources_line(line)
            if isinstance(record, str):
                rejected.append(Rejected("split.jsonl", "line", number, record))
            elif record is not None:
                expected.append((record[0] or f"split.jsonl:{number}", record[1]))
        splits = make_splits(find(path), split_bytes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "BLOCK_BYTES", block_bytes)
            assert read(splits) == (expected, rejected)

    def test_ranges_cover_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl(*TEXTS))
        size = (tmp_path / "a.jsonl").stat().st_size
        for split_bytes in (1, 7, size - 1, size, size + 1):
            splits = make_splits(find(tmp_path), split_bytes)
            ranges = [(m.start, m.stop) for s in splits for m in s.members]
            if size <= split_bytes:
                assert ranges == [(0, None)]
                continue
            assert [split.ordinal for split in splits] == list(range(len(splits)))
            assert ranges[0][0] == 0
            assert ranges[-1][1] == size
            assert all(a[1] == b[0] for a, b in pairwise(ranges))
            assert all(split.work <= split_bytes for split in splits)

    def test_a_document_over_many_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "BLOCK_BYTES", 100)
        texts = ["short", "long " * 5000, "short again"]
        (tmp_path / "a.jsonl").write_bytes(jsonl(*texts))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(*texts)))
        assert [text for _, text in read_all(tmp_path, 300)] == [t.encode() for t in texts] * 2

    @given(
        data=st.binary(max_size=60), offsets=st.lists(st.integers(0, 60)), block=st.integers(1, 9)
    )
    def test_scan(self, folder: Path, data: bytes, offsets: list[int], block: int) -> None:
        data = data.replace(b"\1", b"\n")
        (folder / "scan.jsonl").write_bytes(data)
        [file] = find(folder / "scan.jsonl")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "BLOCK_BYTES", block)
            facts = scan(file, offsets)
        assert facts.xxh3_128 == xxhash.xxh3_128_hexdigest(data)
        assert facts.newlines == {at: data[:at].count(b"\n") for at in offsets}


def sources_line(line: bytes) -> tuple[str | None, bytes] | str | None:
    """The id and text of one of the lines above, None for a blank one, or why it is rejected."""
    if not line.strip():
        return None
    if line.startswith((b"{\r", BOM)) or line == b"{":
        return "malformed JSON"
    record = json.loads(line)
    return record.get("id"), record["text"].encode()


class TestJoinSmall:
    documents = st.lists(st.binary(max_size=12), max_size=3)

    @given(
        batches=st.lists(st.tuples(documents, st.booleans()), max_size=12),
        block_bytes=st.integers(1, 40),
    )
    def test_the_same_records_in_batches_of_one_block(
        self, batches: list[tuple[list[bytes], bool]], block_bytes: int
    ) -> None:
        given = [
            Batch(
                ids=pa.array([f"{n}.{i}" for i in range(len(texts))], pa.string()),
                content=Strings.of_texts(texts),
                rejected=[Rejected("a", "line", n, "why")] if bad else [],
            )
            for n, (texts, bad) in enumerate(batches)
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sources, "BLOCK_BYTES", block_bytes)
            joined = list(sources.join_small(given))
        assert [i for b in joined for i in b.ids.to_pylist()] == [
            i for b in given for i in b.ids.to_pylist()
        ]
        assert [b.content[i].tobytes() for b in joined for i in range(len(b.content))] == [
            text for texts, _ in batches for text in texts
        ]
        assert [r for b in joined for r in b.rejected] == [r for b in given for r in b.rejected]
        sizes = [len(b.content.data) for b in joined]
        largest = max((len(b.content.data) for b in given), default=0)
        assert all(size <= max(block_bytes, largest) for size in sizes)
        assert all(a + b > block_bytes for a, b in pairwise(sizes))


class TestSplits:
    def test_small_files_share_one(self, tmp_path: Path) -> None:
        for n in range(10):
            (tmp_path / f"{n}.jsonl").write_bytes(b'{"text":"0123456789"}\n' * 2)
        splits = make_splits(find(tmp_path), 100)
        assert [[m.file.path for m in s.members] for s in splits] == [
            [f"{n}.jsonl", f"{n + 1}.jsonl"] for n in range(0, 10, 2)
        ]

    def test_there_are_no_more_than_their_names_can_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("exactcpt.pipeline.sources.splits.MAX_SPLITS", 5)
        (tmp_path / "a.jsonl").write_bytes(b"\n" * 60)
        assert len(make_splits(find(tmp_path), 12)) == 5
        with pytest.raises(UsageError) as caught:
            make_splits(find(tmp_path), 11)
        assert str(caught.value) == (
            "the input would be divided into 6 splits\n"
            "  expected: at most 5\n"
            "  fix:      give a larger --split-bytes"
        )

    def test_a_range_shares_with_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n" * 150)
        (tmp_path / "b.jsonl").write_bytes(b"\n" * 20)
        splits = make_splits(find(tmp_path), 100)
        assert [[(m.start, m.stop) for m in s.members] for s in splits] == [
            [(0, 100)],
            [(100, 150)],
            [(0, None)],
        ]

    def test_sources_share_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl("a"))
        [file] = find(tmp_path)
        other = replace(file, source="other")
        assert [s.source for s in make_splits([file, other], 1 << 20)] == ["books", "other"]

    def test_a_compressed_file_is_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(*TEXTS)))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(*TEXTS)))
        splits = make_splits(find(tmp_path), 10)
        assert [[(m.start, m.stop) for m in s.members] for s in splits] == [[(0, None)]] * 2

    @pytest.mark.parametrize("split_bytes", [1, 100, 700, 1 << 20])
    def test_row_groups(self, tmp_path: Path, split_bytes: int) -> None:
        table = pa.table({"text": TEXTS, "other": range(60)})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
        splits = make_splits(find(tmp_path), split_bytes)
        assert len(splits) == {1: 9, 1 << 20: 1}.get(split_bytes, len(splits))
        expected = [(f"a.parquet:{n}", text.encode()) for n, text in enumerate(TEXTS, 1)]
        assert read(splits) == (expected, [])

    def test_of_a_parquet_file_without_footer(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"x" * 1000)
        [split] = make_splits(find(tmp_path), 10)
        assert [(m.start, m.stop) for m in split.members] == [(0, None)]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd, ".zstd": zstd}


@pytest.mark.parametrize("suffix", COMPRESS)
class TestCompressed:
    def test_members_and_frames(self, tmp_path: Path, suffix: str) -> None:
        compress = COMPRESS[suffix]
        pieces = [jsonl(text, first=n) for n, text in enumerate(TEXTS)]
        # An empty one, and lines that go on in the next one.
        whole = b"".join(pieces)
        data = compress(b"") + b"".join(
            compress(whole[i : i + 333]) for i in range(0, len(whole), 333)
        )
        (tmp_path / f"a.jsonl{suffix}").write_bytes(data + compress(b""))
        assert read_all(tmp_path) == EXPECTED

    def test_text(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"a.txt{suffix}").write_bytes(COMPRESS[suffix](b"one\ntwo"))
        assert read_all(tmp_path) == [(f"a.txt{suffix}", b"one\ntwo")]

    def test_truncated_anywhere(self, tmp_path: Path, suffix: str) -> None:
        """A file that ends where a member or frame does is whole, as far as anyone can tell."""
        path = tmp_path / f"a.jsonl{suffix}"
        first = COMPRESS[suffix](jsonl("a", "b"))
        data = first + COMPRESS[suffix](jsonl("c"))
        for size in range(len(data)):
            path.write_bytes(data[:size])
            if size == len(first):
                assert len(read_all(path)) == 2
            else:
                assert bad(path).expected == f"{'gzip' if suffix == '.gz' else 'zstd'} jsonl"

    def test_damaged_or_followed_by_something_else(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.jsonl{suffix}"
        data = COMPRESS[suffix](jsonl(*TEXTS))
        middle = len(data) // 2
        for damaged in (
            data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
            data[:-1] + bytes([data[-1] ^ 1]),
            data + b"something else",
            jsonl("plain"),
        ):
            path.write_bytes(damaged)
            bad(path)


def write_arrow(path: Path, table: pa.Table, writer: Callable[..., Any]) -> None:
    with writer(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=25)


class TestColumnar:
    table = pa.table({"other": range(60), "text": TEXTS, "id": [i for i, _ in EXPECTED]})

    @pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream])
    def test_arrow_file_and_stream(self, tmp_path: Path, writer: Callable[..., Any]) -> None:
        write_arrow(tmp_path / "a.arrow", self.table, writer)
        assert read_all(tmp_path) == EXPECTED

    def test_large_batches_are_read_in_pieces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "BLOCK_BYTES", 200)
        write_arrow(tmp_path / "a.arrow", self.table, pa.ipc.new_file)
        pq.write_table(self.table, tmp_path / "b.parquet")
        for file in find(tmp_path / "a.arrow") + find(tmp_path / "b.parquet"):
            sizes = [b.content.data.nbytes for b in read_member(Member(file=file), TEXT)]
            assert len(sizes) > 5
            assert max(sizes) <= 200
            assert read_all(file.url) == EXPECTED

    def test_rows_are_numbered_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sources, "BLOCK_BYTES", 200)
        write_arrow(tmp_path / "a.arrow", self.table.drop(["id"]), pa.ipc.new_file)
        assert [i for i, _ in read_all(tmp_path)] == [f"a.arrow:{n}" for n in range(1, 61)]

    @pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
    def test_truncated(self, tmp_path: Path, name: str) -> None:
        """All but the end mark of a stream is missed: the format does not ask for that one."""
        path = tmp_path / name
        if name == "a.parquet":
            pq.write_table(self.table, path, row_group_size=20)
        else:
            write_arrow(
                path, self.table, pa.ipc.new_file if name == "file.arrow" else pa.ipc.new_stream
            )
        data = path.read_bytes()
        for size in {0, 3, 8, 100, len(data) // 2, len(data) - 30, len(data) - 9}:
            path.write_bytes(data[:size])
            assert bad(path).expected == path.suffix[1:]

    def test_no_arrow_at_all(self, tmp_path: Path) -> None:
        for name in ("a.arrow", "a.parquet"):
            (tmp_path / name).write_bytes(b"something else entirely " * 9)
            bad(tmp_path / name)

    def test_a_damaged_page(self, tmp_path: Path) -> None:
        pq.write_table(self.table, tmp_path / "a.parquet", compression="zstd")
        data = (tmp_path / "a.parquet").read_bytes()
        (tmp_path / "a.parquet").write_bytes(data.replace(b"\x28\xb5\x2f\xfd", b"page"))
        bad(tmp_path / "a.parquet")

    def test_a_missing_column_names_those_of_the_file(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"body": ["a"], "id": ["x"]}), tmp_path / "a.parquet")
        with pytest.raises(ExactcptError) as caught:
            read_all(tmp_path)
        assert caught.value.expected == "one of its columns: body, id"


class TestText:
    def test_a_file_is_a_document(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(BOM + b"one\r\n\ntwo\n")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "b.md").write_bytes("ü".encode())
        (tmp_path / "empty.txt").write_bytes(b"")
        assert read_all(tmp_path) == [
            ("a.txt", b"one\r\n\ntwo\n"),
            ("empty.txt", b""),
            ("sub/b.md", "ü".encode()),
        ]

    def test_invalid_utf8_is_rejected_with_its_line(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"one\ntwo\n\xff")
        splits = make_splits(find(tmp_path), 1 << 20)
        assert read(splits) == ([], [Rejected("a.txt", "line", 3, "invalid UTF-8")])


@pytest.mark.filterwarnings("ignore")  # of datasets and what it imports
class TestDatasets:
    """Data sets of the library `datasets`, without a network."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        import datasets

        rows = datasets.Dataset.from_dict({"text": TEXTS, "id": [i for i, _ in EXPECTED]})
        rows.save_to_disk(tmp_path / "saved", num_shards=3)
        (tmp_path / "saved" / "cache-0123.arrow").write_bytes(b"what map() leaves there")
        return tmp_path / "saved"

    def test_saved_to_disk(self, saved: Path) -> None:
        assert paths(find(saved)) == [f"data-0000{n}-of-00003.arrow" for n in range(3)]
        assert read_all(saved) == EXPECTED

    def test_a_dict_of_splits(self, tmp_path: Path) -> None:
        import datasets

        rows = datasets.Dataset.from_dict({"text": ["a"]})
        both = datasets.DatasetDict({"train": rows, "test": rows})
        both.save_to_disk(tmp_path / "both")
        with pytest.raises(ExactcptError) as caught:
            find(tmp_path / "both")
        assert str(caught.value) == (
            "this folder is a saved DatasetDict of several splits\n"
            f"  where:    {tmp_path / 'both'}\n"
            "  fix:      name one of its folders: test, train"
        )
        assert read_all(tmp_path / "both" / "train") == [("data-00000-of-00001.arrow:1", b"a")]

    @pytest.fixture
    def local(self, tmp_path: Path) -> Path:
        (tmp_path / "set").mkdir()
        for n in range(4):
            name = tmp_path / "set" / f"train-{n}.jsonl"
            name.write_bytes(b'{"text":"a%d"}\n{"text":"b%d"}\n' % (n, n))
        return tmp_path / "set"

    def test_by_name(self, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder stands in for a data set of the hub."""
        expected = [
            (f"set::train#{n}:{row}", b"%c%d" % (letter, n))
            for n in range(4)
            for row, letter in ((1, b"a"), (2, b"b"))
        ]
        assert read_all(local, file_format="hub") == expected
        monkeypatch.chdir(local.parent)
        [file] = find("set", "hub")
        assert (file.url, file.path, file.bytes) == (f"{local}::train", "set::train", None)
        assert [len(s.members) for s in make_splits([file], 1 << 20)] == [1] * 4

    def test_a_changed_folder_has_another_stamp(self, local: Path) -> None:
        [before] = find(local, "hub")
        (local / "train-0.jsonl").write_bytes(jsonl("changed"))
        [after] = find(local, "hub")
        assert before.stamp != after.stamp

    def test_threads_read_shards_of_one_data_set(self, local: Path) -> None:
        [file] = find(local, "hub")
        found: dict[int, Records] = {}

        def work(shard: int) -> None:
            for _ in range(3):
                records: Records = []
                for table in hub.read_shard(file.url, shard):
                    records += [(str(shard), t.encode()) for t in table["text"].to_pylist()]
                found[shard] = records

        threads = [threading.Thread(target=work, args=(shard,)) for shard in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {n: [(str(n), b"a%d" % n), (str(n), b"b%d" % n)] for n in range(4)}

    def test_a_name_nobody_knows(self, tmp_path: Path) -> None:
        with pytest.raises(ExactcptError) as caught:
            find("nobody/nothing", "hub")
        assert caught.value.found.startswith("cannot open the data set: ")
        assert caught.value.where == "nobody/nothing"

    def test_what_cannot_be_read(self, local: Path) -> None:
        (local / "train-3.jsonl").write_bytes(b"{")
        with pytest.raises(ExactcptError, match="cannot read the data set to its end") as caught:
            read_all(local, file_format="hub")
        assert not isinstance(caught.value, BadFileError)


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
            assert caught.value.found == "a link leads to no file"
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
            ("{}/sub/*", "{}/sub has: c.jsonl, deep"),
            ("{}/none/x.jsonl", "{}/none does not exist: check the path"),
        ],
    )
    def test_nothing_matches(self, corpus: Path, pattern: str, there: str) -> None:
        (corpus / "sub" / "c.jsonl").unlink() if pattern.endswith("sub/*") else None
        with pytest.raises(ExactcptError) as caught:
            find(pattern.format(corpus))
        there = there.replace("c.jsonl, ", "") if pattern.endswith("sub/*") else there
        assert str(caught.value) == (
            "source 'books' matches no file\n"
            f"  where:    {pattern.format(corpus)}\n"
            "  expected: a file, a folder with files of a known format, "
            "or a glob that matches some\n"
            f"  fix:      {there.format(corpus)}"
        )

    @pytest.fixture
    def mixed(self, tmp_path: Path) -> Path:
        """As data sets come: data beside what tells of it, and what nobody can read."""
        for name in ("README.md", "b.jsonl", "sub/a.jsonl.gz", "c.csv", "d.jsonl.xz", ".hidden"):
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
        assert found.warning == (
            "source 'books' is read as jsonl; 3 files are left out: README.md, c.csv, d.jsonl.xz"
        )
        found = listing(f"{base}/*")
        assert paths(found.files) == ["b.jsonl"]
        assert found.warning == (
            "source 'books' is read as jsonl; 3 files are left out: README.md, c.csv, d.jsonl.xz"
        )
        found = listing(f"{base}/[Rb]*", "text")
        assert paths(found.files) == ["README.md"]
        assert found.warning == "source 'books' is read as text; 1 file is left out: b.jsonl"
        assert listing(f"{base}/*.jsonl").warning is None
        for n in range(3):
            put(f"{base}/{n}.bz2", b"")
        assert (listing(base).warning or "").endswith(
            "; 6 files are left out: 0.bz2, 1.bz2, 2.bz2 and 3 more"
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
            "  expected: one format a source\n"
            "  fix:      add ,format=F for those of one format, or a source for each with a glob "
            "such as *.txt"
        )
        assert paths(find(mixed, "jsonl")) == ["b.jsonl", "sub/a.jsonl.gz"]
        assert [i for i, _ in read_all(mixed / "*.txt")] == ["e.txt"]

    def test_nothing_matches_among_many(self, tmp_path: Path) -> None:
        for n in range(14):
            (tmp_path / f"{n:02}.csv").touch()
        with pytest.raises(ExactcptError, match=r"09\.csv and 4 more$"):
            find(tmp_path)

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl.bz2", "a", "a.parquet.gz"])
    def test_a_name_without_a_known_format(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(jsonl("a"))
        with pytest.raises(ExactcptError) as caught:
            find(tmp_path / name)
        assert str(caught.value) == (
            "source 'books': cannot tell the format of a file by its name\n"
            f"  where:    {tmp_path / name}\n"
            "  expected: a name that ends in .jsonl, .ndjson, .json, .parquet, .arrow, .txt, "
            ".text, .md (.gz or .zst after it)\n"
            "  fix:      add ,format=F to the source, F one of jsonl, parquet, arrow, text, hub"
        )

    def test_a_format_that_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "a.data").write_bytes(jsonl("a"))
        (tmp_path / "b.gz").write_bytes(gzip.compress(jsonl("b")))
        assert [text for _, text in read_all(tmp_path, file_format="jsonl")] == [b"a", b"b"]
        assert paths(find(tmp_path / "*.data", "text")) == ["a.data"]

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


class TestMemory:
    """A filesystem of fsspec stands for all that are not local."""

    @pytest.mark.parametrize("split_bytes", [300, 1 << 20])
    def test_every_format(self, memory: str, tmp_path: Path, split_bytes: int) -> None:
        put(f"{memory}/a.jsonl", jsonl(*TEXTS))
        put(f"{memory}/b.jsonl.gz", gzip.compress(jsonl(*TEXTS)))
        put(f"{memory}/c.jsonl.zst", zstd(jsonl(*TEXTS)))
        pq.write_table(TestColumnar.table, tmp_path / "d.parquet", row_group_size=9)
        put(f"{memory}/d.parquet", (tmp_path / "d.parquet").read_bytes())
        write_arrow(tmp_path / "e.arrow", TestColumnar.table, pa.ipc.new_stream)
        put(f"{memory}/e.arrow", (tmp_path / "e.arrow").read_bytes())
        put(f"{memory}/f.txt", b"a text")
        names = ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.parquet", "e.arrow")
        for name in names:
            assert read_all(f"{memory}/{name}", split_bytes) == EXPECTED
        assert read_all(f"{memory}/f.txt", split_bytes) == [("f.txt", b"a text")]

    def test_bad_files(self, memory: str) -> None:
        put(f"{memory}/a.jsonl.gz", gzip.compress(jsonl("a"))[:-1])
        assert bad(memory).where == "memory:///corpus/a.jsonl.gz"

    def test_a_rewritten_file_has_another_stamp(self, memory: str) -> None:
        put(f"{memory}/a.jsonl", jsonl("a"))
        [before] = find(memory)
        put(f"{memory}/a.jsonl", jsonl("b"))
        [after] = find(memory)
        assert before.stamp != after.stamp


class TestChanges:
    def test_while_a_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jsonl"
        path.write_bytes(jsonl("a"))
        [file] = find(path)
        batches = read_member(Member(file=file), TEXT)
        next(batches)
        path.write_bytes(jsonl("a", "b"))
        with pytest.raises(ExactcptError) as caught:
            list(batches)
        assert str(caught.value) == (
            "an input file changed while it was read\n"
            f"  where:    {path}\n"
            "  fix:      run the job again when it rests"
        )

    def test_of_the_time_alone(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl("a"))
        [file] = find(tmp_path)
        os.utime(tmp_path / "a.jsonl", (1, 1))
        with pytest.raises(ExactcptError, match="changed while it was read"):
            list(read_member(Member(file=file), TEXT))

    @pytest.mark.parametrize("name", ["a.jsonl.gz", "a.parquet"])
    def test_a_file_that_was_truncated_meanwhile_is_no_bad_file(
        self, tmp_path: Path, name: str
    ) -> None:
        path = tmp_path / name
        path.write_bytes(gzip.compress(jsonl("a")))
        [file] = find(path)
        path.write_bytes(gzip.compress(jsonl("a"))[:-1])
        with pytest.raises(ExactcptError, match="changed while it was read") as caught:
            list(read_member(Member(file=file), TEXT))
        assert not isinstance(caught.value, BadFileError)

    @pytest.mark.parametrize(
        "error", [FileNotFoundError("gone"), PermissionError("no"), OSError(5, "input/output")]
    )
    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
    def test_errors_of_the_disk_are_no_bad_files(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: OSError
    ) -> None:
        (tmp_path / name).write_bytes(gzip.compress(jsonl("a")))
        [file] = find(tmp_path)

        class Failing(io.BytesIO):
            def read(self, *_: object) -> bytes:
                raise error

        monkeypatch.setattr(sources, "open_input", lambda _: Failing(b"some bytes"))
        with pytest.raises(type(error)):
            list(read_member(Member(file=file), TEXT))


class BusyFileSystem(MemoryFileSystem):
    """A server that answers the first requests for a file, and then no more."""

    protocol = "busy"
    store: ClassVar[dict[str, Any]] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
    pseudo_dirs: ClassVar[list[str]] = [""]
    error: ClassVar[Exception | None] = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("busy://", "memory://"))

    def _open(self, path: str, mode: str = "rb", *more: Any, **options: Any) -> Any:
        opened = super()._open(path, mode, *more, **options)
        if mode == "wb" or self.error is None:
            return opened
        error = self.error

        class Breaking(io.BytesIO):
            def read(self, *size: Any) -> bytes:
                if self.tell() >= 30:
                    raise error
                return super().read(min(30, *size) if size else 30)

        return Breaking(opened.getvalue())


fsspec.register_implementation("busy", BusyFileSystem, clobber=True)


@pytest.mark.parametrize("error", [OSError("503 Slow Down"), RuntimeError("503"), EOFError("gone")])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_a_busy_server_makes_no_bad_file(
    monkeypatch: pytest.MonkeyPatch, name: str, error: Exception
) -> None:
    data = jsonl(*TEXTS)
    put(f"busy://corpus/{name}", gzip.compress(data) if name.endswith("gz") else data)
    [file] = find(f"busy://corpus/{name}")
    monkeypatch.setattr(BusyFileSystem, "error", error)
    with pytest.raises(RemoteReadError) as caught:
        list(read_member(Member(file=file), TEXT))
    assert caught.value.filename == file.url
    assert caught.value.strerror == f"{type(error).__name__}: {error}"


def test_a_damaged_file_of_a_server_is_bad() -> None:
    put("busy://corpus/b.jsonl.gz", gzip.compress(jsonl(*TEXTS))[:-9])
    bad("busy://corpus/b.jsonl.gz")


def test_errors_of_columns_name_source_and_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ExactcptError) as caught:
        read_all(tmp_path)
    assert caught.value.found == "source 'books': no column 'text'"
    assert caught.value.where == str(tmp_path / "a.parquet")


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "c.jsonl").write_bytes(BOM)
    assert read_all(tmp_path) == []
