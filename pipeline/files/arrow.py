"""Arrow IPC files: written batch by batch, read as memory maps or one column at a time."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from ...schemas.manifest import PartFile
from .storage import Folder

__all__ = ["map_batches", "map_table", "read_column", "write_batches"]


def write_batches(
    folder: Folder, name: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> PartFile:
    """Writes record batches to a file as they arrive; returns its name, size and checksum."""
    with folder.create(name) as scratch:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return folder.describe(name, scratch)


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
    with folder.open_ranges(name) as source:
        at = pa.ipc.open_file(source).schema.get_field_index(column)
        options = pa.ipc.IpcReadOptions(included_fields=[at])
        return pa.ipc.open_file(source, options=options).read_all()[column].combine_chunks()
