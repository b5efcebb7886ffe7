import errno
import mmap
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import DATA, TOKENIZER, done, source
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.files import growing
from exactcpt.pipeline.files.arrow import write_batches
from exactcpt.pipeline.files.growing import SYNC_FILE_RANGE_WRITE, GrowingFile
from exactcpt.pipeline.files.storage import Folder, checksum

PAGE = mmap.PAGESIZE


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is asked of the system from now on: offset and size, in pages, two of them a step."""
    made: list[tuple[int, int]] = []

    def begin(_: int, offset: int, size: int, flags: int) -> int:
        assert flags == SYNC_FILE_RANGE_WRITE
        assert offset % PAGE == size % PAGE == 0
        made.append((offset // PAGE, size // PAGE))
        return 0

    monkeypatch.setattr(growing, "_begin", lambda: begin)
    monkeypatch.setattr(growing, "WRITEBACK_BYTES", 2 * PAGE)
    return made


@given(pieces=st.lists(st.binary(max_size=40), max_size=8), most=st.integers(1, 16))
def test_all_bytes_are_written_in_order(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], most: int
) -> None:
    path = tmp_path_factory.mktemp("growing") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growing, "WRITE_BYTES", most)
        with GrowingFile(path) as file:
            for i, piece in enumerate(pieces):
                data = pa.py_buffer(piece) if i % 2 else piece
                assert file.write(data) == len(piece)
    assert path.read_bytes() == b"".join(pieces)
    assert file.describe("name") == {
        "path": "name",
        "bytes": path.stat().st_size,
        "xxh3_128": checksum(path),
    }


def test_no_write_is_larger_than_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step is digested while it is in the cache of a core."""
    sizes: list[int] = []

    class Watched(growing.io.FileIO):
        def write(self, data: memoryview) -> int:
            sizes.append(len(data))
            return super().write(data[:700])  # a disk that is nearly full takes a part

    class Growing(GrowingFile, Watched):
        """Its writes go through the other class."""

    monkeypatch.setattr(growing, "WRITE_BYTES", 1000)
    with Growing(tmp_path / "a") as file:
        file.write(bytes(range(256)) * 10)
    assert (tmp_path / "a").read_bytes() == bytes(range(256)) * 10
    assert max(sizes) == 1000
    assert file.describe("a")["xxh3_128"] == checksum(tmp_path / "a")


def test_each_page_is_asked_for_once_in_steps(
    tmp_path: Path, requests: list[tuple[int, int]]
) -> None:
    with GrowingFile(tmp_path / "a") as file:
        for size in (10, 2 * PAGE - 11, 1, PAGE, 2 * PAGE - 1, 1, 5):
            file.write(bytes(size))
    assert requests == [(0, 2), (2, 2)]


@pytest.mark.parametrize("remote", [False, True])
def test_batches_are_written_to_the_disk_as_they_arrive(
    tmp_path: Path, requests: list[tuple[int, int]], remote: bool
) -> None:
    """Not the copy of a file that is uploaded: it is removed then."""
    schema = pa.schema({"a": pa.int64()})
    batch = pa.record_batch([pa.array(np.arange(PAGE))], schema=schema)  # eight pages
    folder = Folder("memory://growing" if remote else str(tmp_path))
    write_batches(folder, "a.arrow", schema, (batch for _ in range(3)))
    assert [size for _, size in requests] == ([] if remote else [8, 8, 8])


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("read_soon", [False, True])
def test_what_is_not_read_soon_leaves_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_soon: bool, remote: bool
) -> None:
    """When it is whole, and not if it will be uploaded."""
    left: list[bytes] = []
    monkeypatch.setattr(
        GrowingFile, "leave_memory", lambda it: left.append(Path(it.name).read_bytes())
    )
    schema = pa.schema({"a": pa.int64()})
    batch = pa.record_batch([pa.array([1])], schema=schema)
    folder = Folder("memory://leaving" if remote else str(tmp_path))
    write_batches(folder, "a.arrow", schema, [batch], read_soon=read_soon)
    assert left == ([] if remote or read_soon else [folder.read("a.arrow")])


def test_bytes_are_on_the_disk_before_they_leave_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux keeps pages that it has yet to write."""
    asked: list[tuple[str, Any]] = []
    monkeypatch.setattr(os, "fsync", lambda file: asked.append(("sync", file)))
    monkeypatch.setattr(
        os, "posix_fadvise", lambda *how: asked.append(("leave", how)), raising=False
    )
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with GrowingFile(tmp_path / "a") as file:
        file.leave_memory()
        assert asked == [("sync", file.fileno()), ("leave", (file.fileno(), 0, 0, 4))]


@pytest.mark.parametrize("has_call", [False, True])
def test_where_bytes_cannot_leave_memory_they_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool
) -> None:
    """On other systems, and in a container that forbids the call."""

    def refuse(*_: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    if has_call:
        monkeypatch.setattr(os, "posix_fadvise", refuse, raising=False)
        monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with GrowingFile(tmp_path / "a") as file:
        file.write(b"a")
        file.leave_memory()
    assert (tmp_path / "a").read_bytes() == b"a"


def test_a_disk_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with (
        pytest.raises(OSError, match="Input/output error"),
        GrowingFile(tmp_path / "a") as file,
    ):
        file.leave_memory()


def test_only_shards_leave_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of both commands that write some; a store is read when it is packed."""
    left: list[int] = []
    monkeypatch.setattr(GrowingFile, "leave_memory", lambda it: left.append(it.tell()))
    poems, tokenizer = source("poems", DATA / "poems.jsonl"), ["--tokenizer", TOKENIZER, "--quiet"]
    done("prepare", *poems, *tokenizer, "--window", 512, "--out", tmp_path / "packed")
    packed = [path.stat().st_size for path in (tmp_path / "packed").glob("*/shard-*.arrow")]
    assert len(packed) > 1
    assert sorted(left) == sorted(packed)
    (shard,) = (tmp_path / "packed/train").iterdir()
    windows = pa.ipc.open_file(pa.memory_map(str(shard))).read_all()
    pq.write_table(windows.select(["input_ids", "seq_lengths"]), tmp_path / "windows.parquet")
    done("weigh", tmp_path / "windows.parquet", *tokenizer, "--out", tmp_path / "weighed")
    weighed = [path.stat().st_size for path in (tmp_path / "weighed").glob("*/shard-*.arrow")]
    assert len(weighed) > 0
    assert sorted(left) == sorted(packed + weighed)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that can begin to write a range")
def test_linux_begins_to_write(tmp_path: Path) -> None:
    begin = growing._begin()
    assert begin is not None
    with (tmp_path / "a").open("w+b") as file:
        file.write(bytes(100))
        file.flush()
        assert begin(file.fileno(), 0, 100, SYNC_FILE_RANGE_WRITE) == 0
    assert begin(-1, 0, 100, SYNC_FILE_RANGE_WRITE) == -1


def test_elsewhere_files_are_written_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing.ctypes, "CDLL", lambda _: object())
    growing._begin.cache_clear()
    try:
        assert growing._begin() is None
        with GrowingFile(tmp_path / "a") as file:
            file.write(bytes(growing.WRITEBACK_BYTES))
        assert (tmp_path / "a").stat().st_size == growing.WRITEBACK_BYTES
    finally:
        growing._begin.cache_clear()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told_as_it_is() -> None:
    schema = pa.schema({"a": pa.int64()})
    with (
        pytest.raises(OSError, match="No space left on device"),
        GrowingFile(Path("/dev/full")) as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        writer.write_batch(pa.record_batch([pa.array([1])], schema=schema))
