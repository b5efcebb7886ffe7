"""Arrow IPC files: written whole, read as memory maps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.manifest import PartFile
from .storage import Folder

__all__ = ["map_batches", "map_table", "read_column", "write_batches"]


def write_batches(folder: Folder, name: str, schema: Any, batches: Iterable[Any]) -> PartFile:
    """Writes record batches as they come; returns name, size and checksum."""
    with folder.create(name) as scratch:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        return folder.describe(name, scratch)


def map_batches(path: Path) -> list[Any]:
    """The record batches of a local file."""
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [reader.get_batch(i) for i in range(reader.num_record_batches)]


def read_column(folder: Folder, name: str, column: str) -> Any:
    """A column of a file as one array; of a remote file little else is fetched."""
    with folder.open_ranges(name) as source:
        at = pa.ipc.open_file(source).schema.get_field_index(column)
        options = pa.ipc.IpcReadOptions(included_fields=[at])
        return pa.ipc.open_file(source, options=options).read_all()[column].combine_chunks()


def map_table(path: Path) -> Any:
    """A local file as a table."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
