import sys
from pathlib import Path

import pytest

from exactcpt.pipeline.files import writeback
from exactcpt.pipeline.files.writeback import STEP_BYTES, SYNC_FILE_RANGE_WRITE, Writeback


def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, int]]:
    """What is asked of the system from now on: offset, size and flags."""
    made: list[tuple[int, int, int]] = []

    def begin(_: int, offset: int, size: int, flags: int) -> int:
        made.append((offset, size, flags))
        return 0

    monkeypatch.setattr(writeback, "_begin", lambda: begin)
    return made


def test_each_byte_is_asked_for_once_in_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = requests(monkeypatch)
    path = tmp_path / "a"
    path.touch()
    sizes = [10, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + 5, 3 * STEP_BYTES, 3 * STEP_BYTES + 1]
    with Writeback(path) as grows:
        for size in sizes:
            grows.reached(size)
    flags = SYNC_FILE_RANGE_WRITE
    assert made == [(0, STEP_BYTES, flags), (STEP_BYTES, 2 * STEP_BYTES, flags)]


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
