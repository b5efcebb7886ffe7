import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from exactcpt.pipeline.files.arrow import map_batches, map_table, read_column, write_batches
from exactcpt.pipeline.files.storage import Folder, checksum

SCHEMA = pa.schema([pa.field("n", pa.int32(), nullable=False)])


def batches(*sizes: int):
    for size in sizes:
        yield pa.record_batch([pa.array(range(size), pa.int32())], schema=SCHEMA)


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0, 2)])
def test_what_is_written_is_read(tmp_path, sizes):
    folder = Folder(str(tmp_path))
    written = write_batches(folder, "deep/file.arrow", SCHEMA, batches(*sizes))
    path = tmp_path / "deep/file.arrow"
    assert written == {
        "path": "deep/file.arrow",
        "bytes": path.stat().st_size,
        "xxh3_128": checksum(path),
    }
    assert [batch.num_rows for batch in map_batches(path)] == list(sizes)
    expected = [n for size in sizes for n in range(size)]
    assert map_table(path)["n"].to_pylist() == expected
    assert map_table(path).schema == SCHEMA


def test_a_remote_file(tmp_path):
    folder = Folder(f"memory:/{tmp_path}")
    write_batches(folder, "file.arrow", SCHEMA, batches(4))
    with folder.local_copies(["file.arrow"]) as local:
        assert map_table(local["file.arrow"])["n"].to_pylist() == [0, 1, 2, 3]


@pytest.mark.parametrize("remote", [False, True])
def test_a_batch_that_cannot_be_made_leaves_no_file(tmp_path, remote):
    folder = Folder(f"{'memory:/' if remote else ''}{tmp_path}")

    def failing():
        yield from batches(2)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_batches(folder, "file.arrow", SCHEMA, failing())
    assert folder.names() == []


def two_columns(rows: int):
    for start in range(0, 3 * rows, rows):
        some = range(start, start + rows)
        yield pa.record_batch([pa.array(map(str, some)), pa.array([[0] * 100] * rows)], ["a", "b"])


@pytest.mark.parametrize("place", ["local", "memory"])
def test_one_column_is_read_without_the_other(tmp_path, monkeypatch, place):
    folder = Folder(str(tmp_path) if place == "local" else f"memory:/{tmp_path}")
    schema = next(two_columns(1)).schema
    written = write_batches(folder, "file.arrow", schema, two_columns(50))
    fetched = []
    cat_file = MemoryFileSystem.cat_file

    def fetch(fs, path, **where):
        fetched.append(len(cat_file(fs, path, **where)))
        return cat_file(fs, path, **where)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", fetch)
    column = read_column(folder, "file.arrow", "a")
    assert column.equals(pa.array([str(i) for i in range(150)]))
    assert bool(fetched) == (place == "memory")
    assert sum(fetched) < written["bytes"] / 10
