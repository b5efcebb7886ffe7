"""Writes the tensors of a checkpoint: PyTorch's writer, whose files may be flushed once closed."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

from torch.distributed.checkpoint.filesystem import FileSystem, _FileSystemWriter

__all__ = ["CheckpointWriter"]


class CheckpointWriter(_FileSystemWriter):
    """PyTorch's writer into a folder; its subclass `FileSystemWriter` also copies the state.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.fs = _Files()


class _Files(FileSystem):
    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        with _File(io.FileIO(path, mode)) as stream:
            yield stream


class _File(io.BufferedWriter):
    def flush(self) -> None:
        """Writes what is buffered, if the file is open.

        PyTorch wraps the file for each tensor. If the disk is full, it closes the file first and
        the wrapper later, which flushes the file; Python 3.13 prints the error that this would be.
        """
        if not self.closed:
            super().flush()
