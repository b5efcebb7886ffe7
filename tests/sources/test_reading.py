import gzip
import io
import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import (
    BOM,
    COMPRESS,
    COMPRESSION,
    EXPECTED,
    TABLE,
    TEXT,
    TEXTS,
    Records,
    bad,
    find,
    jsonl,
    put,
    read,
    read_all,
    write_arrow,
    zstd,
)
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import compression, reading, scanning
from exactcpt.pipeline.sources.reading import BadFileError, join_small, read_member
from exactcpt.pipeline.sources.records import Batch, Fields, Rejected, Strings
from exactcpt.pipeline.sources.splits import Member, make_splits
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.remote_errors import RemoteError


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
            record = expected_of_line(line)
            if isinstance(record, str):
                rejected.append(Rejected("split.jsonl", "line", number, record))
            elif record is not None:
                expected.append((record[0] or f"split.jsonl:{number}", record[1]))
        splits = make_splits(find(path), split_bytes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reading, "BLOCK_BYTES", block_bytes)
            patch.setattr(scanning, "READ_BYTES", block_bytes)
            assert read(splits) == (expected, rejected)

    def test_a_document_over_many_blocks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "BLOCK_BYTES", 100)
        texts = ["short", "long " * 5000, "short again"]
        (tmp_path / "a.jsonl").write_bytes(jsonl(*texts))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(*texts)))
        assert [text for _, text in read_all(tmp_path, 300)] == [t.encode() for t in texts] * 2


def expected_of_line(line: bytes) -> tuple[str | None, bytes] | str | None:
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
            patch.setattr(reading, "BLOCK_BYTES", block_bytes)
            joined = list(join_small(given))
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
                assert bad(path).expected == f"{COMPRESSION[suffix]} jsonl"

    def test_damaged_or_followed_by_something_else(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"a.jsonl{suffix}"
        data = COMPRESS[suffix](jsonl(*TEXTS))
        middle = len(data) // 2
        for damaged in (
            data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :],
            data[:-2] + bytes([data[-2] ^ 1]) + data[-1:],  # the last bits of bzip2 are padding
            data + b"something else",
        ):
            path.write_bytes(damaged)
            bad(path)

    def test_not_compressed_at_all(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"a.jsonl{suffix}").write_bytes(jsonl("plain"))
        assert refused(tmp_path) == (
            f"a file has a name of {COMPRESSION[suffix]} data, and its first bytes are not such "
            f"data\n  where:    {tmp_path}/a.jsonl{suffix}\n"
            f"  expected: {COMPRESSION[suffix]} jsonl\n"
            "  fix:      if it is not compressed, take the suffix from its name; otherwise restore "
            "it"
        )


def refused(pattern: object) -> str:
    with pytest.raises(BadFileError) as caught:
        read_all(pattern)
    return str(caught.value)


class TestColumnar:
    @pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream])
    def test_arrow_file_and_stream(self, tmp_path: Path, writer: Callable[..., Any]) -> None:
        write_arrow(tmp_path / "a.arrow", TABLE, writer)
        assert read_all(tmp_path) == EXPECTED

    def test_large_batches_are_read_in_pieces(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "BLOCK_BYTES", 200)
        write_arrow(tmp_path / "a.arrow", TABLE, pa.ipc.new_file)
        pq.write_table(TABLE, tmp_path / "b.parquet")
        for file in find(tmp_path / "a.arrow") + find(tmp_path / "b.parquet"):
            sizes = [b.content.data.nbytes for b in read_member(Member(file=file), TEXT)]
            assert len(sizes) > 5
            assert max(sizes) <= 200
            assert read_all(file.url) == EXPECTED

    def test_rows_are_numbered_through(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "BLOCK_BYTES", 200)
        write_arrow(tmp_path / "a.arrow", TABLE.drop(["id"]), pa.ipc.new_file)
        assert [i for i, _ in read_all(tmp_path)] == [f"a.arrow:{n}" for n in range(1, 61)]

    @pytest.mark.parametrize("name", ["a.parquet", "file.arrow", "stream.arrow"])
    def test_truncated(self, tmp_path: Path, name: str) -> None:
        """All but the end mark of a stream is missed: the format does not ask for that one."""
        path = tmp_path / name
        if name == "a.parquet":
            pq.write_table(TABLE, path, row_group_size=20)
        else:
            write_arrow(path, TABLE, pa.ipc.new_file if name == "file.arrow" else pa.ipc.new_stream)
        data = path.read_bytes()
        for size in {0, 3, 8, 100, len(data) // 2, len(data) - 30, len(data) - 9}:
            path.write_bytes(data[:size])
            assert bad(path).expected == path.suffix[1:]

    def test_no_arrow_at_all(self, tmp_path: Path) -> None:
        for name in ("a.arrow", "a.parquet"):
            (tmp_path / name).write_bytes(b"something else entirely " * 9)
            bad(tmp_path / name)

    def test_a_damaged_page(self, tmp_path: Path) -> None:
        pq.write_table(TABLE, tmp_path / "a.parquet", compression="zstd")
        data = (tmp_path / "a.parquet").read_bytes()
        (tmp_path / "a.parquet").write_bytes(data.replace(b"\x28\xb5\x2f\xfd", b"page"))
        bad(tmp_path / "a.parquet")

    def test_a_missing_column_names_those_of_the_file(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"body": ["a"], "id": ["x"]}), tmp_path / "a.parquet")
        with pytest.raises(ExactcptError) as caught:
            read_all(tmp_path)
        assert caught.value.expected == "one of its columns: body, id"


class TestOtherContent:
    @pytest.mark.parametrize("split_bytes", [30, 1 << 20])
    def test_the_first_range_refuses_the_file(self, tmp_path: Path, split_bytes: int) -> None:
        (tmp_path / "a.json").write_text(json.dumps([{"text": text} for text in TEXTS], indent=1))
        with pytest.raises(BadFileError) as caught:
            read(make_splits(find(tmp_path), split_bytes)[:1])
        assert str(caught.value) == (
            "a file is not what its name or its source says: it seems to be one JSON array, "
            "not JSON Lines\n"
            f"  where:    {tmp_path}/a.json\n"
            "  expected: jsonl\n"
            "  fix:      write each record on its line: jq -c '.[]' a.json > NEW.jsonl"
        )

    def test_a_range_without_line_ends_refuses_it(self, tmp_path: Path) -> None:
        """It may be read before the first one, and its advice would be about a long record."""
        (tmp_path / "a.json").write_text(json.dumps([{"text": 200_000 * "a"}] * 3))
        second = make_splits(find(tmp_path), 300_000)[1]
        with pytest.raises(BadFileError, match="it seems to be one JSON array"):
            read([second], Fields(max_bytes=100))

    def test_a_range_is_read_without_the_beginning_of_its_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl(*TEXTS))
        places: list[int] = []

        class Watched(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                places.append(self.tell())
                return super().read(size)

        monkeypatch.setattr(compression, "open_input", lambda url: Watched(Path(url).read_bytes()))
        _, *others = make_splits(find(tmp_path), 50)
        read(others)
        assert min(places) == 49

    def test_compressed_files_without_their_suffix_and_twice_compressed(
        self, tmp_path: Path
    ) -> None:
        for name, data in {
            "a.jsonl": gzip.compress(jsonl("a")),
            "b.jsonl.zst": zstd(gzip.compress(jsonl("a"))),
            "c.jsonl.zst": gzip.compress(jsonl("a")),
            "d.parquet": gzip.compress(jsonl("a")),
            "e.arrow": gzip.compress(jsonl("a")),
        }.items():
            (tmp_path / name).write_bytes(data)
            assert "it seems to be compressed with gzip\n" in refused(tmp_path / name)

    def test_columnar_files_under_other_names(self, tmp_path: Path) -> None:
        pq.write_table(TABLE, tmp_path / "a.jsonl")
        write_arrow(tmp_path / "b.jsonl", TABLE, pa.ipc.new_file)
        write_arrow(tmp_path / "c.parquet", TABLE, pa.ipc.new_file)
        assert "it seems to be a Parquet file\n" in refused(tmp_path / "a.jsonl")
        assert "it seems to be an Arrow file\n" in refused(tmp_path / "b.jsonl")
        assert "it seems to be an Arrow file\n" in refused(tmp_path / "c.parquet")

    def test_names_are_quoted_for_the_shell(self, tmp_path: Path) -> None:
        (tmp_path / "a b;$(c).json").write_bytes(b"[\n")
        assert "jq -c '.[]' 'a b;$(c).json' > NEW" in refused(tmp_path)

    def test_a_file_of_text_is_one_rejected_record(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes("some text".encode("utf-16-le"))
        (tmp_path / "b.txt").write_bytes(gzip.compress(b"some text"))
        (tmp_path / "c.txt").write_bytes(b"[1]")
        assert read(make_splits(find(tmp_path), 1 << 20)) == (
            [("c.txt", b"[1]")],
            [
                Rejected("a.txt", "line", 1, "this seems to be UTF-16 text"),
                Rejected("b.txt", "line", 1, "this seems to be compressed with gzip"),
            ],
        )

    def test_what_pyarrow_cannot_read_is_not_called_damaged(self, tmp_path: Path) -> None:
        lists = pa.array([[1, 2], None], pa.list_(pa.int32(), 2))
        pq.write_table(pa.table({"text": lists}), tmp_path / "a.parquet")
        assert refused(tmp_path).startswith(
            "pyarrow cannot read this file, which may well be whole: Expected all lists"
        )


class TestLongRecords:
    """The limit is exact, and the same for any split and block."""

    fields = Fields(max_bytes=30)

    def error(self, path: Path, split_bytes: int = 1 << 20) -> str:
        with pytest.raises(ExactcptError) as caught:
            read(make_splits(find(path), split_bytes), self.fields)
        assert not isinstance(caught.value, BadFileError), "it is never left out"
        return str(caught.value)

    @pytest.mark.parametrize("block_bytes", [1, 7, 1000])
    @pytest.mark.parametrize("split_bytes", [5, 1000])
    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_lines(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        suffix: str,
        split_bytes: int,
        block_bytes: int,
    ) -> None:
        monkeypatch.setattr(reading, "BLOCK_BYTES", block_bytes)
        line = b'{"text":"' + b"x" * 19 + b'"}'
        assert len(line) == 30
        (tmp_path / f"a.jsonl{suffix}").write_bytes(
            COMPRESS.get(suffix, bytes)(b"\n".join([line, b"", line]))
        )
        found, _ = read(make_splits(find(tmp_path), split_bytes), self.fields)
        assert [text for _, text in found] == [b"x" * 19] * 2
        (tmp_path / f"a.jsonl{suffix}").write_bytes(
            COMPRESS.get(suffix, bytes)(b"\n".join([line, b"", line + b" ", line]))
        )
        assert self.error(tmp_path, split_bytes) == (
            "a record has more than 30 bytes\n"
            f"  where:    {tmp_path}/a.jsonl{suffix}, line 3\n"
            "  expected: records of at most --max-record-bytes\n"
            "  fix:      see whether the file lacks line ends or holds something else; if it is a "
            "document, divide it, or set a larger --max-record-bytes (reading it takes about nine "
            "times its size in memory)"
        )

    def test_files_of_text(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"x" * 30)
        assert read(make_splits(find(tmp_path), 1000), self.fields)[1] == []
        (tmp_path / "b.txt.zst").write_bytes(zstd(b"x" * 31))
        assert f"{tmp_path}/b.txt.zst, the whole file" in self.error(tmp_path)

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
    def test_rows(self, tmp_path: Path, kind: pa.DataType) -> None:
        rows = ["x" * 30, None, "ü" * 15]
        pq.write_table(pa.table({"text": pa.array(rows, kind)}), tmp_path / "a.parquet")
        assert len(read(make_splits(find(tmp_path), 1000), self.fields)[0]) == 2
        rows.append("ü" * 16)
        pq.write_table(pa.table({"text": pa.array(rows, kind)}), tmp_path / "a.parquet")
        message = self.error(tmp_path)
        assert message.startswith("source 'books': a record has more than 30 bytes\n")
        assert f"{tmp_path}/a.parquet, row 4\n" in message


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


class TestMemory:
    """A filesystem of fsspec stands for all that are not local."""

    @pytest.mark.parametrize("split_bytes", [300, 1 << 20])
    def test_every_format(self, memory: str, tmp_path: Path, split_bytes: int) -> None:
        put(f"{memory}/a.jsonl", jsonl(*TEXTS))
        put(f"{memory}/b.jsonl.gz", gzip.compress(jsonl(*TEXTS)))
        put(f"{memory}/c.jsonl.zst", zstd(jsonl(*TEXTS)))
        pq.write_table(TABLE, tmp_path / "d.parquet", row_group_size=9)
        put(f"{memory}/d.parquet", (tmp_path / "d.parquet").read_bytes())
        write_arrow(tmp_path / "e.arrow", TABLE, pa.ipc.new_stream)
        put(f"{memory}/e.arrow", (tmp_path / "e.arrow").read_bytes())
        put(f"{memory}/f.txt", b"a text")
        names = ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.parquet", "e.arrow")
        for name in names:
            assert read_all(f"{memory}/{name}", split_bytes) == EXPECTED
        assert read_all(f"{memory}/f.txt", split_bytes) == [("f.txt", b"a text")]

    def test_bad_files(self, memory: str) -> None:
        put(f"{memory}/a.jsonl.gz", gzip.compress(jsonl("a"))[:-1])
        assert bad(memory).where == "memory:///corpus/a.jsonl.gz"


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
            "  fix:      run the job again once the file no longer changes"
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

    @pytest.mark.parametrize("error", [MemoryError("no room"), pa.ArrowMemoryError("no room")])
    def test_a_lack_of_memory_is_no_bad_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail(*_: object) -> None:
            raise error

        pq.write_table(TABLE, tmp_path / "a.parquet")
        monkeypatch.setattr(reading, "batch_of_columns", fail)
        with pytest.raises(ExactcptError, match="not enough memory to read a file: no room") as c:
            read_all(tmp_path)
        assert not isinstance(c.value, BadFileError)

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

        for module in (reading, compression):
            monkeypatch.setattr(module, "open_input", lambda _: Failing(b"some bytes"))
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
    with pytest.raises(RemoteError) as caught:
        list(read_member(Member(file=file), TEXT))
    assert caught.value.filename == file.url
    assert caught.value.strerror is not None
    assert caught.value.strerror.startswith("a request to the server failed: ")
    assert caught.value.strerror.endswith(str(error))


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
