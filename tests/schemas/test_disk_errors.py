import errno
import os
from pathlib import Path

import pytest

from exactcpt.schemas.disk_errors import FIXES, disk_error


def named(number: int, path: object = "/there/file") -> str:
    return str(disk_error(OSError(number, os.strerror(number), path)))


def test_a_full_disk():
    assert named(errno.ENOSPC) == (
        "reading or writing failed: No space left on device\n"
        "  where:    /there/file\n"
        "  fix:      make room there, and run the same command again"
    )


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "raise the quota"),
        (errno.EACCES, "change the permissions"),
        (errno.EPERM, "change the permissions"),
        (errno.EROFS, "mounted for reading only"),
        (errno.EIO, "repair or replace it"),
        (errno.ENOENT, "whether the path is right"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EFBIG, "ulimit -f"),
        (errno.ENAMETOOLONG, "shorter names"),
        (errno.ESTALE, "it has lost the file"),
        (errno.ENOLCK, "lock a file"),
        (errno.ENOTSUP, "lock a file"),
        (errno.ETIMEDOUT, "the connection"),
    ],
)
def test_an_error_has_the_advice_of_its_own_cause(number, words):
    told = named(number)
    assert os.strerror(number) in told and "/there/file" in told and words in told


def test_only_a_full_disk_wants_room():
    wants_room = {number for number, fix in FIXES.items() if "room" in fix}
    assert wants_room == {errno.ENOSPC, errno.EDQUOT}
    assert "room" not in named(errno.ENXIO)


def test_an_error_without_a_number_or_a_path():
    told = disk_error(OSError("truncated"))
    assert (told.found, told.where) == ("reading or writing failed: truncated", None)
    assert disk_error(OSError()).found == "reading or writing failed: OSError"
    assert disk_error(OSError("truncated"), Path("/there")).where == "/there"
    assert "permissions" in str(disk_error(PermissionError("Access Denied")))
    assert "connection" in str(disk_error(ConnectionResetError()))


def test_both_paths_of_a_rename_and_paths_as_bytes():
    error = OSError(errno.EXDEV, "Invalid cross-device link", "/one", None, "/other")
    assert disk_error(error).where == "/one -> /other"
    assert "where:    /there" in named(errno.EIO, b"/there")


def test_a_link_that_points_to_nothing(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OSError, match="No such file") as caught:
        link.read_bytes()
    assert str(disk_error(caught.value)) == (
        "reading or writing failed: a link points to nothing\n"
        f"  where:    {link} -> {tmp_path}/nowhere\n"
        "  fix:      repair the link, or remove it"
    )
