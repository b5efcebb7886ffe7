"""Which files were removed without having been opened."""

import os
import sys
from pathlib import Path

import pytest
from campaign.watch import Watch

if sys.platform != "linux":
    pytest.skip("the kernel's watches are Linux's", allow_module_level=True)

NAMES = ("a", "b", "folder/c")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "folder").mkdir()
    for name in NAMES:
        (tmp_path / name).write_bytes(b"data")
    return tmp_path


@pytest.fixture
def watch(root: Path) -> Watch:
    return Watch(root, NAMES)


def test_a_file_that_stays_matters(watch):
    assert watch.close() == frozenset()


def test_removed_unread(root, watch):
    (root / "a").stat()
    (root / "a").unlink()
    (root / "folder" / "c").rename(root / "d")
    (root / "d").unlink()
    assert watch.close() == {"a", "folder/c"}


def test_replaced_unread(root, watch):
    """What another file is renamed over is gone; the other one is not."""
    (root / "b").rename(root / "a")
    assert watch.close() == {"a"}


def test_opened_and_removed(root, watch):
    (root / "b").open("r+b").close()
    (root / "b").unlink()
    assert watch.close() == frozenset()


def test_opened_under_another_name(root, watch):
    (root / "a").rename(root / "new")
    (root / "new").read_bytes()
    (root / "new").unlink()
    (root / "folder" / "linked").hardlink_to(root / "b")
    (root / "b").unlink()
    assert watch.close() == frozenset()


def test_linked_files_are_gone_together(root):
    (root / "linked").hardlink_to(root / "a")
    watch = Watch(root, ["a", "linked"])
    (root / "a").unlink()
    (root / "linked").unlink()
    assert watch.close() == {"a", "linked"}


def test_a_file_that_is_missing(root):
    with pytest.raises(FileNotFoundError):
        Watch(root, ["missing"])


def test_too_much_happened(root, watch):
    """What the kernel has not told may have been that a file was opened."""
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    assert most < 1 << 20
    (root / "a").unlink()
    for _ in range(most // 2 + 1):
        for name in ("b", "folder/c"):  # the same event twice in a row is told once
            os.close(os.open(root / name, os.O_RDONLY))
    assert watch.close() == frozenset()
