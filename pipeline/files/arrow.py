"""Arrow IPC files: written batch by batch, read as memory maps or one column at a time."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.manifest import PartFile
from ...schemas.shard import spans_type
from .growing import GrowingFile
from .storage import Folder, is_local_url, open_input

__all__ = ["map_batches", "map_table", "open_native", "read_column", "span_lists", "write_batches"]


def write_batches(
    folder: Folder,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    read_soon: bool = True,
) -> PartFile:
    """Writes record batches to a file as they arrive.

    Args:
        folder: the folder.
        name: of the file.
        schema: of the batches.
        batches: the batches.
        read_soon: whether the file is worth the memory that it takes until it is read.

    Returns:
        Its name, size and checksum.
    """
    with folder.create(name) as scratch:
        with GrowingFile(scratch, keeps=folder.is_local) as sink:
            with pa.ipc.new_file(sink, schema) as writer:
                for batch in batches:
                    writer.write_batch(batch)
            if folder.is_local and not read_soon:
                sink.leave_memory()
        return sink.describe(name)


def open_native(url: str) -> Any:
    """As `open_input`, for pyarrow: it reads a local file itself, in half the time."""
    stream = open_input(url)
    if not is_local_url(url):
        return stream
    with stream:
        return pa.OSFile(stream.name, "rb")


def map_batches(path: Path) -> list[pa.RecordBatch]:
    """Maps a local file into memory, as record batches."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def map_table(path: Path) -> pa.Table:
    """Maps a local file into memory, as one table."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def read_column(folder: Folder, name: str, column: str) -> pa.Array:
    """Reads one column of a file; little else of a remote file is fetched."""
    local = folder.is_local
    with open_native(folder.url_of(name)) if local else folder.open_ranges(name) as source:
        at = pa.ipc.open_file(source).schema.get_field_index(column)
        options = pa.ipc.IpcReadOptions(included_fields=[at])
        return pa.ipc.open_file(source, options=options).read_all()[column].combine_chunks()


def span_lists(
    bounds: NDArray[np.int64], start: NDArray[np.int32], stop: NDArray[np.int32]
) -> pa.Array:
    """A column of supervised spans.

    Args:
        bounds: row i has the spans bounds[i]:bounds[i + 1]; shape [rows + 1].
        start, stop: of the spans.
    """
    kind: Any = spans_type()
    making: Any = pa.StructArray
    fields: Any = list(kind.value_type)
    spans = making.from_arrays([pa.array(start), pa.array(stop)], fields=fields)
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), spans, type=kind)
