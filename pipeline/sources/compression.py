"""Compressed files: gzip, zstd, bzip2 and xz, as streams of the bytes they hold.

Each of the four formats allows several members (streams, frames) one after another, whose contents
are joined. A file must end where a member ends: what is cut off, or followed by anything that is
not a member, is damaged. That holds for all four alike, which is why the members are told apart
here, and the libraries decompress one at a time.
"""

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zstandard

from ..files.storage import open_input
from .formats import Compression
from .listing import InputFile

__all__ = ["MAX_WINDOW_BYTES", "DamagedError", "DecompressedStream", "open_decompressed"]

MAX_WINDOW_BYTES = 2 << 30
"""The memory that a member may ask for: `zstd --long=31`, the format's own limit, asks for that."""
READ_BYTES = 64 << 10
"""Compressed bytes read at a time."""
FEED_BYTES = 512
"""Compressed bytes given to a library at a time: four bytes of zstd can stand for 128 KiB, and one
of gzip for 1 KiB, so that one call returns at most 16 MiB, whatever the file holds."""
MOST_BYTES = 8 << 20
"""What bzip2, of which 50 bytes can stand for 50 MB, and xz are asked for at a time."""
CAN_STOP: tuple[Compression, ...] = ("bzip2", "xz")
"""Their libraries take a limit, and keep what they have not yet decompressed."""

DECOMPRESSORS: dict[Compression, Callable[[], Any]] = {
    "gzip": lambda: zlib.decompressobj(wbits=16 + zlib.MAX_WBITS),
    "zstd": lambda: zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompressobj(),
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_WINDOW_BYTES),
}
"""One member's decompressor: `decompress(data)`, `eof`, and `unused_data` once it has ended."""


class DamagedError(Exception):
    """A file that is truncated or corrupt, or compressed and asks for too much memory."""


@contextmanager
def open_decompressed(file: InputFile) -> Iterator[Any]:
    """Opens a file for reading its bytes as they were before compression.

    A compressed file is a DecompressedStream, which cannot seek; any other one can.
    """
    with open_input(file.url) as raw:
        yield raw if file.compression is None else DecompressedStream(raw, file.compression)


class DecompressedStream:
    """Reads the bytes that a compressed file holds; memory is bounded whatever the file says.

    Args:
        raw: the compressed file.
        compression: its format.
    """

    def __init__(self, raw: Any, compression: Compression) -> None:
        self._raw = raw
        self._compression: Compression = compression
        self._new = DECOMPRESSORS[compression]
        self._member: Any = None
        self._compressed = memoryview(b"")
        self._ahead = bytearray()

    def read(self, size: int) -> bytes:
        """The next `size` bytes; fewer only at the end.

        Raises:
            DamagedError: the file is truncated or corrupt, or asks for too much memory.
        """
        found = self.peek(size)
        del self._ahead[:size]
        return found

    def peek(self, size: int) -> bytes:
        """What `read` will return, which then still returns it."""
        while len(self._ahead) < size:
            if self._has_more():
                self._decompress(b"")
            elif not self._feed():
                break
        return bytes(self._ahead[:size])

    def _has_more(self) -> bool:
        """Whether the member can go on without more input."""
        member = self._member
        return (
            self._compression in CAN_STOP
            and member is not None
            and not member.eof
            and not member.needs_input
        )

    def _feed(self) -> bool:
        """Decompresses some input; False at the end, which must be that of a member."""
        if not self._compressed:
            self._compressed = memoryview(self._raw.read(READ_BYTES))
        data = bytes(self._compressed[:FEED_BYTES])
        self._compressed = self._compressed[FEED_BYTES:]
        if not data:
            if self._member is None:
                raise DamagedError("it has no bytes, not even a header")
            if not self._member.eof:
                raise DamagedError(f"it ends in the middle of its {self._compression} data")
            return False
        while data := self._begun(data):
            self._decompress(data)
            data = self._member.unused_data if self._member.eof else b""
        return True

    def _begun(self, data: bytes) -> bytes:
        """Begins a member if none is open and there is data for it; returns the data."""
        if self._member is not None and self._member.eof and self._compression == "xz":
            data = data.lstrip(b"\0")  # its padding
        if data and (self._member is None or self._member.eof):
            self._member = self._new()
        return data

    def _decompress(self, data: bytes) -> None:
        limit = (MOST_BYTES,) if self._compression in CAN_STOP else ()
        try:
            self._ahead += self._member.decompress(data, *limit)
        except (zlib.error, zstandard.ZstdError, lzma.LZMAError, OSError, EOFError) as error:
            raise DamagedError(_what(error, self._compression)) from error


def _what(error: Exception, compression: Compression) -> str:
    """What a library says, or why a file is refused that may well be whole."""
    said = str(error)
    if "too much memory" in said or "Memory usage limit" in said:
        return (
            f"it asks for a {compression} window of more than {MAX_WINDOW_BYTES >> 30} GiB of "
            "memory"
        )
    return f"damaged {compression} data: {said.rpartition(': ')[2]}"
