"""A set that is replaced while it is read: an error, and no window of the other set."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from handmade import edit_manifest
from tiny import shard_set

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.shard_set.recognize import open_shard_set
from exactcpt.pipeline.shard_set.windows import read_segments, read_windows
from exactcpt.schemas.errors import FormatError

REPLACED = "the shard set was replaced while it was read"


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    """Two sets of equal sizes, of other windows, in `one` and `other`."""
    folder = tmp_path_factory.mktemp("two")
    shard_set(folder / "one", times=3)
    shutil.copytree(folder / "one", folder / "other")
    edit_manifest(folder / "other", lambda m: m["settings"].update(seed=5))
    return folder


@pytest.fixture
def read(two, tmp_path) -> Path:
    return Path(shutil.copytree(two / "one", tmp_path / "set"))


def by_job(folder: Path, other: Path) -> None:
    """As a job does it: the manifest goes first and comes last."""
    (folder / "manifest.json").unlink()
    for path in sorted(other.glob("*/*")):
        shutil.copy(path, folder / path.relative_to(other))
    shutil.copy(other / "manifest.json", folder)


def by_job_not_finished(folder: Path, other: Path) -> None:
    (folder / "manifest.json").unlink()


def by_renaming(folder: Path, other: Path) -> None:
    folder.rename(folder.with_name("old"))
    shutil.copytree(other, folder)


WAYS = [by_job, by_job_not_finished, by_renaming]
ways = pytest.mark.parametrize("replace", WAYS, ids=lambda way: way.__name__)


@ways
def test_segments(read, two, replace: Callable[[Path, Path], None]):
    shards = Folder(str(read))
    segments = read_segments(shards, open_shard_set(shards), "train")
    next(segments)
    replace(read, two / "other")
    with pytest.raises(FormatError, match=REPLACED):
        next(segments)


@ways
def test_windows(read, two, replace: Callable[[Path, Path], None]):
    shards = Folder(str(read))
    windows = read_windows(shards, open_shard_set(shards), "train", [0, 1, 6])
    next(windows)
    next(windows)
    replace(read, two / "other")
    with pytest.raises(FormatError, match=REPLACED):
        next(windows)


def test_between_the_manifest_and_the_first_window(read, two):
    shards = Folder(str(read))
    manifest = open_shard_set(shards)
    by_job(read, two / "other")
    with pytest.raises(FormatError, match=REPLACED):
        next(read_windows(shards, manifest, "train", [0]))


def test_the_same_set_again(read, two):
    """Copied once more, it is the same: nothing is wrong."""
    shards = Folder(str(read))
    segments = read_segments(shards, open_shard_set(shards), "train")
    next(segments)
    by_job(read, two / "one")
    assert list(segments)
