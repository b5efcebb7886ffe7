"""The files of a checkpoint, as PyTorch's writer handles them."""

import pytest

from exactcpt.training.run.checkpoint_writer import CheckpointWriter


@pytest.fixture
def stream(tmp_path):
    with CheckpointWriter(tmp_path).fs.create_stream(tmp_path / "file", "wb") as stream:
        yield stream


def test_it_may_be_flushed_once_closed(stream, tmp_path):
    stream.write(b"tensor")
    stream.close()
    stream.flush()  # what the wrapper of a tensor does if the disk was full
    assert (tmp_path / "file").read_bytes() == b"tensor"


def test_it_is_flushed_while_open(stream, tmp_path):
    stream.write(b"tensor")
    stream.flush()
    assert (tmp_path / "file").read_bytes() == b"tensor"
    assert stream.fileno() >= 0
