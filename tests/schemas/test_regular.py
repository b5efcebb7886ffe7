import os
import socket
from pathlib import Path

import pytest
import xxhash

from exactcpt.schemas.errors import FormatError
from exactcpt.schemas.regular import check_inside, hash_regular, open_regular, read_regular


def test_a_file(tmp_path):
    data = os.urandom(3 << 20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "link").symlink_to("a")
    assert read_regular(tmp_path / "a") == read_regular(tmp_path / "link") == data
    with open_regular(tmp_path / "a") as file:
        assert file.read() == data


@pytest.mark.parametrize("size", [0, 1, 1 << 24, (1 << 24) + 1])
def test_a_digest(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "a").write_bytes(data)
    found = xxhash.xxh3_128(b"before ")
    assert hash_regular(tmp_path / "a", found) == size
    assert found.hexdigest() == xxhash.xxh3_128_hexdigest(b"before " + data)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "a")


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    (tmp_path / "link").symlink_to("pipe")
    kinds = {
        "pipe": "this is a named pipe",
        "link": "this is a named pipe",
        "socket": "this is a socket",
        ".": "this is a folder",
        "/dev/zero": "this is a device",
        "a\0b": "this is no path: it has a NUL",
    }
    for name, says in kinds.items():
        with pytest.raises(FormatError) as caught:
            read_regular(tmp_path / name)
        assert caught.value.found == says


def test_a_pipe_of_the_shell():
    """`--table <(jq ...)` gives such a path."""
    reads, writes = os.pipe()
    os.write(writes, b"{}")
    os.close(writes)
    assert read_regular(Path(f"/dev/fd/{reads}")) == b"{}"
    os.close(reads)


def test_a_file_that_is_too_large(tmp_path):
    with (tmp_path / "a").open("wb") as file:
        file.truncate(1 << 40)  # no block of it is on the disk
    with pytest.raises(FormatError, match="too large") as caught:
        read_regular(tmp_path / "a", 1 << 20)
    assert caught.value.expected == "at most 1,048,576 bytes"


def test_a_file_outside(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "secret").write_text("x")
    (tmp_path / "set" / "link").symlink_to("../secret")
    with pytest.raises(FormatError, match="a file leads out of its folder") as caught:
        check_inside(tmp_path / "set", tmp_path / "set" / "link")
    assert caught.value.where == f"{tmp_path}/set/link -> {tmp_path}/secret"


def test_files_inside(tmp_path):
    (tmp_path / "set" / "train").mkdir(parents=True)
    (tmp_path / "set" / "a").write_text("x")
    (tmp_path / "set" / "train" / "b").symlink_to("../a")
    (tmp_path / "other").symlink_to("set")
    for root in (tmp_path / "set", tmp_path / "other"):
        for name in ("a", "train/b"):
            check_inside(root, root / name)


def test_a_hub_cache(tmp_path):
    """Links lead into the contents of this cache, and into no others."""
    for name in ("one", "two"):
        (tmp_path / name / "blobs").mkdir(parents=True)
        (tmp_path / name / "blobs" / "123").write_text("x")
        (tmp_path / name / "snapshots" / "abc" / "shards").mkdir(parents=True)
    shards = tmp_path / "one" / "snapshots" / "abc" / "shards"
    (shards / "a").symlink_to("../../../blobs/123")
    (shards / "b").symlink_to("../../../../two/blobs/123")
    check_inside(shards, shards / "a")
    with pytest.raises(FormatError, match="leads out of its folder"):
        check_inside(shards, shards / "b")
