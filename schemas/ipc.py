"""What an Arrow file says of itself, read before Arrow decompresses any of it.

Arrow's own reader decompresses a record batch when it is asked for it, however large that becomes.
Here only the descriptions are read: the footer, and the header of every message that it names. They
are FlatBuffers, of which Arrow publishes the tables (format/File.fbs and format/Message.fbs).
"""

import struct
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

__all__ = ["is_compressed"]

MAGIC = b"ARROW1"
DICTIONARIES, RECORD_BATCHES = 2, 3  # fields of Footer
VERSION, HEADER_KIND, HEADER, CUSTOM = 0, 1, 2, 4  # fields of Message
DICTIONARY_BATCH = 2  # a kind of header
DICTIONARY_DATA = 1  # field of DictionaryBatch
COMPRESSION = 3  # field of RecordBatch
V4 = 3  # MetadataVersion, that of Arrow before 1.0
BLOCK = struct.Struct("<qi4xq")
MOST_METADATA = 1 << 24
"""Bytes of a footer or a header: those of a shard have some hundreds."""


def is_compressed(file: Any) -> bool:
    """Whether any dictionary or record batch of an Arrow file has compressed buffers.

    Args:
        file: open for reading bytes, seekable; it is left at any position.

    Raises:
        pa.ArrowInvalid: it is not an Arrow file, or its descriptions are damaged.
    """
    try:
        return any(_is_compressed(file, *block) for block in _blocks(file))
    except (struct.error, IndexError) as error:
        raise pa.ArrowInvalid(f"its metadata is damaged: {error}") from None


def _blocks(file: Any) -> Iterator[tuple[int, int]]:
    """Offset and size of the description of each dictionary and record batch."""
    size = file.seek(0, 2)
    tail = 4 + len(MAGIC)
    if size < tail + len(MAGIC) or _read(file, size - len(MAGIC), len(MAGIC)) != MAGIC:
        raise pa.ArrowInvalid("it is not an Arrow file, or its end is missing")
    (length,) = struct.unpack("<i", _read(file, size - tail, 4))
    footer = _Table.root(_read(file, size - tail - length, length))
    for field in (DICTIONARIES, RECORD_BATCHES):
        for offset, metadata, _ in footer.structs(field, BLOCK):
            yield offset, metadata


def _is_compressed(file: Any, offset: int, size: int) -> bool:
    data = _read(file, offset, size)
    begin = 8 if data[:4] == b"\xff\xff\xff\xff" else 4  # before Arrow 0.15 there was no marker
    message = _Table.root(data[begin:])
    if message.byte(VERSION) == V4 and message.has(CUSTOM):
        return True  # Arrow 0.17 named a codec there, and every later one still decompresses that
    batch = message.table(HEADER)
    if message.byte(HEADER_KIND) == DICTIONARY_BATCH:
        batch = batch and batch.table(DICTIONARY_DATA)
    return batch is not None and batch.has(COMPRESSION)


def _read(file: Any, offset: int, size: int) -> bytes:
    if offset < 0 or not 0 < size <= MOST_METADATA or offset + size > file.seek(0, 2):
        raise pa.ArrowInvalid(f"its metadata is damaged: {size:,} bytes at byte {offset:,}")
    file.seek(offset)
    data = bytes(file.read(size))
    if len(data) != size:
        raise pa.ArrowInvalid("its metadata is damaged: it reaches past the end")
    return data


class _Table:
    """A table of FlatBuffers: a vtable has the place of each field, 0 for one that is absent."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data, self._at = data, at
        self._vtable = at - self._int("<i", at)
        self._fields = (self._int("<H", self._vtable) - 4) // 2

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, struct.unpack_from("<I", data)[0])

    def has(self, field: int) -> bool:
        return self._place(field) is not None

    def byte(self, field: int) -> int:
        place = self._place(field)
        return 0 if place is None else self._data[place]

    def table(self, field: int) -> "_Table | None":
        place = self._place(field)
        return None if place is None else _Table(self._data, place + self._int("<I", place))

    def structs(self, field: int, kind: struct.Struct) -> Iterator[tuple[int, ...]]:
        place = self._place(field)
        if place is not None:
            first = place + self._int("<I", place)
            for i in range(self._int("<I", first)):
                yield kind.unpack_from(self._data, first + 4 + i * kind.size)

    def _place(self, field: int) -> int | None:
        if field >= self._fields:
            return None
        offset = self._int("<H", self._vtable + 4 + 2 * field)
        return self._at + offset if offset else None

    def _int(self, kind: str, at: int) -> int:
        if at < 0:
            raise IndexError("a place before its beginning")
        return struct.unpack_from(kind, self._data, at)[0]
