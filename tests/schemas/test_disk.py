"""Files are written whole or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from exactcpt.schemas.disk import (
    folder_written_whole,
    is_file_name,
    is_temporary,
    remove_unfinished,
    sync_file,
    sync_folder,
    written_whole,
)
from exactcpt.schemas.errors import UsageError


def noted(monkeypatch: pytest.MonkeyPatch, rename: str) -> list[str]:
    """What is synced and renamed from now on; `rename` is the method of a path that renames."""
    done: list[str] = []
    fsync, renamed = os.fsync, getattr(Path, rename)

    def noted_fsync(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("sync folder" if is_folder else "sync file")
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        done.append("rename")
        return renamed(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, rename, noted_rename)
    return done


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file"
    with written_whole(target) as scratch:
        scratch.write_text("all of it")
        assert not target.exists()
        assert is_temporary(scratch.name)
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    assert target.read_text() == "all of it"


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), written_whole(target) as scratch:
        scratch.write_text("ne")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_text() == "old"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder"
    with folder_written_whole(target) as scratch:
        (scratch / "inner").mkdir()
        (scratch / "inner" / "file").write_text("all of it")
        assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["folder"]
    assert (target / "inner" / "file").read_text() == "all of it"


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), folder_written_whole(tmp_path / "folder") as scratch:
        (scratch / "file").write_text("ne")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_a_kill_left_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "folder.partial").mkdir()
    (tmp_path / "folder.partial" / "old").write_text("half")
    with folder_written_whole(tmp_path / "folder") as scratch:
        (scratch / "new").write_text("x")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


def test_a_name_that_is_taken_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OSError), folder_written_whole(tmp_path / "folder") as scratch:
        (scratch / "file").write_text("new")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").write_text("old")
    assert (tmp_path / "folder" / "file").read_text() == "old"


def test_a_folder_is_replaced_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").touch()
    with folder_written_whole(tmp_path / "folder", replace=True) as scratch:
        (scratch / "new").touch()
        assert (tmp_path / "folder" / "old").exists()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["new"]


@pytest.mark.parametrize("other", [{"a/file": "new"}, {"a/file": "old", "b": ""}, {}])
def test_a_folder_with_the_name_is_kept_if_it_is_the_same(tmp_path: Path, other: dict) -> None:
    def write(folder: Path, files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)

    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder", {"a/file": "old"})
    with folder_written_whole(tmp_path / "folder", same=True) as scratch:
        write(scratch, {"a/file": "old"})
    with (
        pytest.raises(UsageError, match=r"exists, and its (a/file|b) is not what would be"),
        folder_written_whole(tmp_path / "folder", same=True) as scratch,
    ):
        write(scratch, other)
    assert [*tmp_path.iterdir()] == [tmp_path / "folder"]
    assert (tmp_path / "folder" / "a" / "file").read_text() == "old"


def test_what_can_not_be_the_same_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("empty", "file"):
        with (
            pytest.raises(UsageError, match="the folder to write exists\\n"),
            folder_written_whole(tmp_path / name, same=True),
        ):
            pytest.fail("it began")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_a_new_folder_outlives_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interruption when the old folder is gone, and the new one has not got its name."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(Path, "rename", interrupt)
    with (
        pytest.raises(KeyboardInterrupt),
        folder_written_whole(tmp_path / "folder", replace=True) as scratch,
    ):
        (scratch / "new").touch()
    assert (tmp_path / "folder.partial" / "new").exists()


def test_all_of_a_folder_is_synced_before_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with folder_written_whole(tmp_path / "folder") as scratch:
        (scratch / "inner").mkdir()
        (scratch / "inner" / "file").write_bytes(b"x")
        done = noted(monkeypatch, "rename")
    assert sorted(done[:3]) == ["sync file", "sync folder", "sync folder"]
    assert done[3:] == ["rename", "sync folder"]


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = [
        "a.json", ".a.json", ".a.json.tmp", ".aXjson." + "0" * 32 + ".tmp", ".a.json.draft.tmp",
        ".b.json." + "0" * 32 + ".tmp", ".a.json." + "0" * 32 + ".tmp.zst",
    ]  # fmt: skip
    left = [".a.json." + "0" * 32 + ".tmp", ".c." + "0123456789abcdef" * 2 + ".tmp"]
    for name in (*kept, *left):
        (tmp_path / name).touch()
    with written_whole(tmp_path / "c") as scratch:
        scratch.touch()
        remove_unfinished(tmp_path, ["a.json", "c"])
        assert not scratch.exists()
        scratch.touch()
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "c"}


def test_bytes_are_synced_before_the_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = noted(monkeypatch, "replace")
    with written_whole(tmp_path / "file") as scratch:
        scratch.write_bytes(b"x")
    assert done == ["sync file", "rename", "sync folder"]


def test_the_first_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "read-only by now")

    with pytest.raises(OSError, match="full"), written_whole(tmp_path / "file"):
        monkeypatch.setattr(Path, "unlink", refuse)
        raise OSError(errno.ENOSPC, "full")


def test_a_folder_that_may_not_be_read_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def refuse(path: Path, flags: int) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    with written_whole(tmp_path / "file") as scratch:
        scratch.write_bytes(b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF])
def test_a_file_system_that_cannot_sync_folders_is_used(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _refusing(number, stat.S_ISDIR))
    with written_whole(tmp_path / "file") as scratch:
        scratch.write_bytes(b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_disk_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _refusing(errno.EIO, stat.S_ISDIR))
    with pytest.raises(OSError, match="refused"):
        sync_folder(tmp_path)
    monkeypatch.setattr(os, "fsync", _refusing(errno.EINVAL, stat.S_ISREG))
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(OSError, match="refused"):
        sync_file(tmp_path / "file")


def _refusing(number: int, kind: object) -> object:
    fsync = os.fsync

    def refuse(descriptor: int) -> None:
        if kind(os.fstat(descriptor).st_mode):  # type: ignore[operator]
            raise OSError(number, "refused")
        fsync(descriptor)

    return refuse


@pytest.mark.parametrize(
    ("name", "is_one"),
    [("a.arrow", True), ("..a", True), (".metadata", True), ("", False), (".", False),
     ("..", False), ("a/b", False), ("/a", False), ("..\\a", False), ("a\0", False)],
)  # fmt: skip
def test_names_that_stay_in_their_folder(name: str, is_one: bool) -> None:
    assert is_file_name(name) is is_one
