"""Reads the tensors of a checkpoint. Nothing that is in a checkpoint can run code.

torch.distributed.checkpoint keeps its index, `.metadata`, as a pickle, and values that are not
tensors as pickles too. A pickle can name any function of any module and have it called. Here the
index may name the classes of an index and nothing else, and values are loaded by PyTorch's
restricted unpickler.
"""

import errno
import io
import pathlib
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import metadata as index
from torch.distributed.checkpoint._traverse import set_element
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, _StorageInfo
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load

from ...schemas.disk import is_file_name
from ...schemas.disk_errors import disk_error
from ...schemas.errors import FormatError
from ...schemas.regular import check_regular, open_regular
from ...schemas.sizes import plural
from .checkpoint_files import REMOVE

__all__ = ["INDEX", "CheckpointReader", "last_line", "load_tensors"]

INDEX = ".metadata"

INDEX_CLASSES = (
    index.BytesStorageMetadata,
    index.ChunkStorageMetadata,
    index.Metadata,
    index.MetadataIndex,
    index.StorageMeta,
    index.TensorProperties,
    index.TensorStorageMetadata,
    index._MEM_FORMAT_ENCODING,
    _StorageInfo,
)
ALLOWED: dict[tuple[str, str], Any] = {
    **{(each.__module__, each.__name__): each for each in INDEX_CLASSES},
    ("torch", "Size"): torch.Size,
    ("torch.serialization", "_get_layout"): torch.serialization._get_layout,
    # Where the checkpoint was written. Its class has another module in each Python; a pure path
    # cannot touch the disk.
    **{(module, "PosixPath"): pathlib.PurePosixPath for module in ("pathlib", "pathlib._local")},
}
"""Module and name of everything that an index of PyTorch 2.11 to 2.13 names, except types."""


class _IndexUnpickler(pickle._Unpickler):
    """Unpickles an index.

    It is the one in Python: that in C makes room for whatever number of objects a pickle claims.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The class of a name, if it may be in an index."""
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no checkpoint needs")
        return ALLOWED[module, name]


class CheckpointReader(FileSystemReader):
    """Reads a checkpoint for torch.distributed.checkpoint.

    Args:
        checkpoint: its folder.

    Attributes:
        names: names of the files that its tensors are in.

    Raises:
        FormatError: the index is missing or damaged, names what is none of its business, or a file
            is no ordinary one.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__(checkpoint)
        self._index = _read_index(checkpoint)
        self.names = {info.relative_path for info in self._index.storage_data.values()}
        for path in (checkpoint / name for name in sorted(self.names)):
            if path.exists():
                check_regular(path)  # what is missing is told by whoever reads it

    def read_metadata(self, *_: Any, **__: Any) -> index.Metadata:
        """The index."""
        return self._index


class _Planner(DefaultLoadPlanner):
    """Loads values that are not tensors without running code."""

    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        """Puts a value into the state."""
        place = self.mappings[read_item.dest_index.fqn]
        set_element(self.original_state_dict, place, torch.load(value, weights_only=True))


def load_tensors(
    state: dict[str, Any], reader: CheckpointReader, group: dist.ProcessGroup | None
) -> None:
    """Fills the tensors of `state`, which has those of the `model` and maybe the `optimizer`.

    Args:
        state: as torch.distributed.checkpoint takes it; changed in place.
        reader: of the checkpoint.
        group: of the ranks that load together; None for a process on its own.

    Raises:
        FormatError: the checkpoint is damaged, or is of another model.
        ExactcptError: the disk failed.
    """
    where = str(reader.checkpoint_id)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            load(
                state,
                storage_reader=reader,
                planner=_Planner(),
                process_group=group,
                no_dist=group is None,
            )
    except (CheckpointException, OSError, ValueError, RuntimeError) as error:
        if (failure := _of_the_disk(error)) is not None:
            raise disk_error(failure, where) from error
        raise FormatError(
            f"the checkpoint cannot be loaded: {last_line(error)}", where=where, fix=REMOVE
        ) from error
    # Tensors that the model lacks are not asked for, so nothing else would notice them.
    stored = reader.read_metadata().state_dict_metadata
    saved = {name for name in stored if name.startswith("model.")}
    left = sorted(saved - {f"model.{name}" for name in state["model"]})
    if left:
        raise FormatError(
            f"the checkpoint is of another model: it has {plural(len(left), 'tensor')} that this "
            f"model lacks, the first is {left[0].removeprefix('model.')}",
            where=where,
            fix="give the model that the checkpoint was saved from",
        )


def _read_index(checkpoint: Path) -> index.Metadata:
    try:
        with open_regular(checkpoint / INDEX) as file:
            found = _IndexUnpickler(file).load()
        _check_index(found)
    except FormatError:
        raise
    except Exception as error:  # a damaged pickle may raise any
        if (failure := _of_the_disk(error)) is not None:
            raise disk_error(failure) from None
        raise FormatError(
            f"the checkpoint cannot be loaded: {INDEX} is not its index: {last_line(error)}",
            where=str(checkpoint),
            fix=f"{REMOVE}; if it is not your own, do not use it",
        ) from None
    return found


def _check_index(found: Any) -> None:
    if not isinstance(found, index.Metadata):
        raise ValueError(f"it holds a {type(found).__name__}")
    for info in found.storage_data.values():
        # A name from a stranger's file must not lead out of the folder.
        if not is_file_name(info.relative_path):
            raise ValueError(f"{info.relative_path!r} is not the name of a file in the checkpoint")
        if info.transform_descriptors:
            raise ValueError(f"{info.relative_path} is compressed")
    if not all(isinstance(name, str) for name in found.state_dict_metadata):
        raise ValueError("a tensor has no name")


def _of_the_disk(error: BaseException) -> OSError | None:
    """The failure of the disk that an error is, or gathers from the ranks; a missing file is none.

    It does not say that the checkpoint is damaged, so nobody should remove that.
    """
    if isinstance(error, CheckpointException):
        found = (_of_the_disk(each) for each, _ in error.failures.values())
        return next((each for each in found if each is not None), None)
    if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
        return error
    return None


def last_line(error: BaseException) -> str:
    """The last line of an error; in the errors of torch it has the cause."""
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
