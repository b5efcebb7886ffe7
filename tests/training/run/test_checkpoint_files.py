"""A checkpoint notices every bit of it that is not as it was written."""

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch.distributed as dist
from checkpoints import meta_of, model_and_optimizer
from torch.distributed.checkpoint.filesystem import FileSystemReader

from exactcpt.schemas.disk_errors import disk_error
from exactcpt.schemas.errors import ExactcptError, FormatError
from exactcpt.training.run import checkpoint_files, checkpoint_reader
from exactcpt.training.run.checkpoint import CheckpointManager, load_weights
from exactcpt.training.run.checkpoint_files import check_files, newest_checkpoint, read_meta
from exactcpt.training.run.checkpoint_reader import CheckpointReader

FLIPS = 150
"""Bits of each file that are flipped, one at a time."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("run")
    dist.init_process_group("gloo", init_method=f"file://{run}/meeting", rank=0, world_size=1)
    CheckpointManager(run, keep=1).save(1, *model_and_optimizer(), meta_of(1), wait=True)
    dist.destroy_process_group()
    path = newest_checkpoint(run)
    assert path is not None
    return path


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / saved.name))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_what_is_recorded(checkpoint):
    record = json.loads((checkpoint / "meta.json").read_text())
    names = sorted(path.name for path in checkpoint.iterdir())
    assert names == [".metadata", "__0_0.distcp", "meta.json"]
    assert [file["name"] for file in record["files"]] == names[:-1]
    for file in record["files"]:
        assert file["bytes"] == (checkpoint / file["name"]).stat().st_size
    check_files(checkpoint)
    assert read_meta(checkpoint) == meta_of(1)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_every_flipped_bit_is_found(checkpoint, name):
    path = checkpoint / name
    data = path.read_bytes()
    for bit in random.Random(name).sample(range(8 * len(data)), FLIPS):
        path.write_bytes(flipped(data, bit))
        with pytest.raises(FormatError, match="a file of the checkpoint was altered: xxh3_128"):
            check_files(checkpoint)


def test_a_flipped_bit_of_the_record_is_found_or_changes_nothing(checkpoint):
    path = checkpoint / "meta.json"
    data, found = path.read_bytes(), 0
    for bit in random.Random(0).sample(range(8 * len(data)), 4 * FLIPS):
        path.write_bytes(flipped(data, bit))
        try:
            check_files(checkpoint)
            assert read_meta(checkpoint) == meta_of(1)
        except FormatError as error:
            found += 1
            assert error.found.startswith("the checkpoint's meta.json cannot be read")
    assert found > 3 * FLIPS  # the others are white space


def test_a_file_of_another_length(checkpoint):
    path = checkpoint / "__0_0.distcp"
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    with pytest.raises(FormatError) as caught:
        load_weights(checkpoint, model_and_optimizer()[0])
    assert caught.value.found == f"a file of the checkpoint was altered: bytes {len(data) - 1}"
    assert caught.value.expected == f"bytes {len(data)}, as meta.json says"
    assert caught.value.where == str(path)
    assert caught.value.fix == (
        f"restore it; or remove it to continue from the one before: {checkpoint}"
    )


def test_a_file_that_is_missing(checkpoint):
    (checkpoint / "__0_0.distcp").unlink()
    with pytest.raises(FormatError, match="a file of the checkpoint is missing"):
        check_files(checkpoint)


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ESTALE])
def test_a_disk_that_fails_is_no_damage(checkpoint, monkeypatch, number):
    """Nobody should be told to remove a checkpoint that may be whole."""
    error = OSError(number, os.strerror(number), "there")

    def fail(*_):
        raise error

    for name, read in (("hash_regular", check_files), ("read_regular", read_meta)):
        with monkeypatch.context() as patched, pytest.raises(ExactcptError) as caught:
            patched.setattr(checkpoint_files, name, fail)
            read(checkpoint)
        assert str(caught.value) == str(disk_error(error))
    with monkeypatch.context() as patched, pytest.raises(ExactcptError) as caught:
        patched.setattr(checkpoint_reader, "open_regular", fail)
        CheckpointReader(checkpoint)
    assert str(caught.value) == str(disk_error(error))
    with monkeypatch.context() as patched, pytest.raises(ExactcptError) as caught:
        patched.setattr(FileSystemReader, "read_data", fail)
        load_weights(checkpoint, model_and_optimizer()[0])
    assert str(caught.value) == str(disk_error(error))


def test_ranks_share_the_files(checkpoint):
    """.metadata is the first of two files, the tensors are the second."""
    (checkpoint / "__0_0.distcp").write_bytes(b"")
    check_files(checkpoint, 0, 2)
    check_files(checkpoint, 2, 3)
    for share in [(1, 2), (0, 1), (1, 3)]:
        with pytest.raises(FormatError):
            check_files(checkpoint, *share)


def test_a_checkpoint_of_an_older_version_has_no_checksums(checkpoint):
    """Nor does it say how many steps were skipped: it was made where none is."""
    meta = {name: value for name, value in meta_of(1).items() if name != "skipped"}
    (checkpoint / "meta.json").write_text(json.dumps(meta))
    assert read_meta(checkpoint) == meta_of(1)
    load_weights(checkpoint, model_and_optimizer()[0])


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({}, "its files are not a list"),
        ([1], "it is not an object"),
        ([{"name": "a", "bytes": 1}], "it has no xxh3_128"),
        ([{"name": "../a", "bytes": 1, "xxh3_128": ""}], "'../a' is not the name of a file"),
        ([{"name": "/a", "bytes": 1, "xxh3_128": ""}], "'/a' is not the name of a file"),
    ],
)
def test_a_list_that_is_none(checkpoint, files, reason):
    (checkpoint / "meta.json").write_text(json.dumps(meta_of(1) | {"files": files}))
    with pytest.raises(FormatError) as caught:
        check_files(checkpoint)
    assert reason in caught.value.found


def test_a_record_nested_without_end(checkpoint):
    (checkpoint / "meta.json").write_text("[" * 100_000)
    with pytest.raises(FormatError, match="it is nested in more than 100 levels"):
        read_meta(checkpoint)
