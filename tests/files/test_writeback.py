import mmap
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from exactcpt.pipeline.files import writeback
from exactcpt.pipeline.files.arrow import write_batches
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.files.writeback import STEP_BYTES, SYNC_FILE_RANGE_WRITE, Writeback


def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What is asked of the system from now on: offset, size and flags."""
    made: list[tuple[int, int, int]] = []

    def begin(_: int, offset: int, size: int, flags: int) -> int:
        made.append((offset, size, flags))
        return 0

    monkeypatch.setattr(writeback, "_begin", lambda: begin)
    return made


def test_each_page_is_asked_for_once_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = requests(monkeypatch)
    path = tmp_path / "a"
    path.touch()
    sizes = [10, STEP_BYTES - 1, STEP_BYTES + 5, 3 * STEP_BYTES + mmap.PAGESIZE - 1, 4 * STEP_BYTES]
    with Writeback(path) as grows:
        for size in sizes:
            grows.reached(size)
    flags = SYNC_FILE_RANGE_WRITE
    assert made == [
        (0, STEP_BYTES, flags),
        (STEP_BYTES, 2 * STEP_BYTES, flags),
        (3 * STEP_BYTES, STEP_BYTES, flags),
    ]


@pytest.mark.parametrize("remote", [False, True])
def test_batches_are_written_to_the_disk_as_they_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    """Not the copy of a file that is uploaded: it is removed then."""
    made = requests(monkeypatch)
    schema = pa.schema({"a": pa.int64()})
    batch = pa.record_batch([pa.array(np.arange(STEP_BYTES // 8 + 1))], schema=schema)
    folder = Folder("memory://writeback" if remote else str(tmp_path))
    write_batches(folder, "a.arrow", schema, (batch for _ in range(3)))
    assert len(made) == (0 if remote else 3)


@pytest.mark.skipif(sys.platform != "linux", reason="it is Linux that can begin to write a range")
def test_linux_begins_to_write(tmp_path: Path) -> None:
    begin = writeback._begin()
    assert begin is not None
    with (tmp_path / "a").open("w+b") as file:
        file.write(bytes(100))
        file.flush()
        assert begin(file.fileno(), 0, 100, SYNC_FILE_RANGE_WRITE) == 0
    assert begin(-1, 0, 100, SYNC_FILE_RANGE_WRITE) == -1


def test_elsewhere_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writeback.ctypes, "CDLL", lambda _: object())
    begin = writeback._begin
    begin.cache_clear()
    try:
        assert begin() is None
        path = tmp_path / "a"
        path.touch()
        with Writeback(path) as grows:
            grows.reached(STEP_BYTES)
    finally:
        begin.cache_clear()
