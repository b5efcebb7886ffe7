"""WET: the plain text of web pages, as Common Crawl extracts it, in records of WARC.

    WARC/1.0                               the version, headers, and a blank line
    WARC-Type: conversion
    WARC-Record-ID: <urn:uuid:...>
    Content-Length: 4931
                                           so many bytes of text, and two line ends

Records of other types, such as the one that describes the file, are passed over. The id of a
document is WARC-Record-ID, or the header that id=FIELD names, such as WARC-Target-URI. The format:
https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from .compression import DamagedError
from .gathering import Item, text_item
from .listing import InputFile
from .records import Fields, too_long

__all__ = ["RECORD_ID", "TARGET", "read_items"]

RECORD_ID, TARGET = "WARC-Record-ID", "WARC-Target-URI"
CONVERSION = "conversion"
VERSION = re.compile(rb"WARC/\d+\.\d+")
END_OF_HEADERS, END_OF_RECORD = b"\r\n\r\n", b"\r\n\r\n"
MOST_HEADER_BYTES = 1 << 20
STEP_BYTES = 1 << 16
DIGITS = re.compile("[0-9]{1,18}", re.ASCII)


def read_items(stream: Any, file: InputFile, fields: Fields) -> Iterator[Item]:
    """Yields the texts of a file.

    Raises:
        DamagedError: the file is truncated, corrupt, or not WARC.
        ExactcptError: a record is too long.
    """
    ahead = _Ahead(stream)
    wanted = (fields.id if fields.names_id else RECORD_ID).lower()
    number = 0
    while ahead.fill(1):
        headers = _headers(ahead)
        size = headers.get("content-length", "")
        if not DIGITS.fullmatch(size):
            raise DamagedError("a record does not say how long it is")
        if headers.get("warc-type") == CONVERSION:
            number += 1
            if int(size) > fields.max_bytes:
                raise too_long(file.url, f"row {number:,}", fields)
            yield text_item(headers.get(wanted), ahead.take(int(size)))
        else:
            ahead.skip(int(size))
        if ahead.take(len(END_OF_RECORD)) != END_OF_RECORD:
            raise DamagedError("a record does not end where it says")


def _headers(ahead: "_Ahead") -> Mapping[str, str]:
    """The headers of the next record, by their names in lower case."""
    first, *lines = ahead.take_until(END_OF_HEADERS).split(b"\r\n")
    if not VERSION.fullmatch(first):
        raise DamagedError("there is no record of WARC where one should begin")
    named = (line.decode("utf-8", "replace").partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in named}


class _Ahead:
    """A stream of which some bytes are looked at before they are taken."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._held = bytearray()

    def fill(self, size: int) -> bool:
        """Reads until `size` bytes are held; False if there are fewer."""
        while len(self._held) < size:
            data = self._stream.read(max(STEP_BYTES, size - len(self._held)))
            if not data:
                return False
            self._held += data
        return True

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if not self.fill(size):
            raise DamagedError("it ends in the middle of a record")
        found = bytes(self._held[:size])
        del self._held[:size]
        return found

    def skip(self, size: int) -> None:
        """Takes bytes that nobody wants, however many."""
        while size:
            step = min(size, STEP_BYTES)
            self.take(step)
            size -= step

    def take_until(self, end: bytes) -> bytes:
        """The bytes before an end that is near, which is taken too."""
        searched = 0
        while (at := self._held.find(end, searched)) < 0:
            searched = max(0, len(self._held) - len(end))
            if len(self._held) > MOST_HEADER_BYTES:
                raise DamagedError("there is no record of WARC where one should begin")
            if not self.fill(len(self._held) + 1):
                raise DamagedError("it ends in the middle of a record")
        return self.take(at + len(end))[:at]
