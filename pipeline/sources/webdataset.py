"""WebDataset: a tar archive in which members of one name, up to its first dot, are a sample.

    books/0001.txt    books/0001.json    books/0002.txt ...

The document of a sample is its `.txt` (or the member that text=FIELD names by its suffix), or else
the field of its `.json`. Its id is the name without suffixes. Nothing is unpacked: members are read
one after the other, and those that are no ordinary files (links, devices, folders) are passed over.

Python's reader takes a damaged header in the middle of an archive for its end. Here it is an error,
and so is an archive without the blocks of zeros that end it, or with anything but zeros after them:
of two archives that are joined, it would read the first.
"""

import codecs
import tarfile
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from .compression import DamagedError
from .gathering import Item, text_item
from .jsonl import parse_line
from .listing import InputFile
from .records import BLOCK_BYTES, Fields, too_long

__all__ = ["no_document", "read_items"]

TEXT, JSON = "txt", "json"
MOST_HEADER_BYTES = 1 << 20
"""Of a header that has a long name or other facts about a member: it is read whole."""
EXTENDED = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
"""Types of such headers."""


class _Part(NamedTuple):
    """A member: the name of its sample, its suffixes without the first dot, and what it holds."""

    key: str
    suffix: str
    data: bytes


class _Header(tarfile.TarInfo):
    """A member's header; damage is an error wherever it is."""

    @classmethod
    def frombuf(cls, buf: Any, encoding: str, errors: str) -> "_Header":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the block of zeros
            raise
        except tarfile.HeaderError as error:
            raise DamagedError(f"a header of the archive is missing or damaged: {error}") from None

    def _proc_member(self, archive: Any) -> Any:
        if self.type in EXTENDED and self.size > MOST_HEADER_BYTES:
            raise DamagedError(f"a header of the archive has {self.size:,} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def read_items(stream: Any, file: InputFile, fields: Fields) -> Iterator[Item]:
    """Yields the samples of an archive.

    Raises:
        DamagedError: the archive is truncated or corrupt.
        ExactcptError: a member that is read is too long.
    """
    for key, parts in groupby(_parts(stream, file, fields), key=lambda part: part.key):
        yield _item(key, list(parts), fields)


def _parts(stream: Any, file: InputFile, fields: Fields) -> Iterator[_Part]:
    """Yields the members, in order; only those that may be a document are read."""
    try:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header) as opened:
            archive: Any = opened  # its types lack `members`
            while (member := archive.next()) is not None:
                archive.members.clear()  # it would keep the headers of all
                if member.size < 0:
                    raise DamagedError(f"a member of the archive has {member.size:,} bytes")
                if not member.isreg():
                    continue
                folder, slash, base = member.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                data = b""
                if suffix in _read_suffixes(fields):
                    if member.size > fields.max_bytes:
                        raise too_long(file.url, f"member {member.name}", fields)
                    data = archive.extractfile(member).read()
                yield _Part(f"{folder}{slash}{stem}", suffix, data)
            _refuse_more(archive.fileobj)
    # The library reads numbers without a check, and calls itself for each header about a member.
    except (tarfile.TarError, ValueError, RecursionError) as error:
        raise DamagedError(f"the archive is damaged: {error}") from None


def _refuse_more(stream: Any) -> None:
    """Reads to the end of the file, where a compressed one has a checksum; all must be zeros."""
    while rest := stream.read(BLOCK_BYTES):
        if rest.strip(b"\0"):
            raise DamagedError(
                "something follows the end of the archive; if several archives are joined in the "
                "file, divide it"
            )


def _read_suffixes(fields: Fields) -> set[str]:
    if fields.tokens is not None:
        return {JSON}
    return {TEXT if fields.text == Fields.text else fields.text, JSON}


def no_document(fields: Fields) -> str:
    """Why a sample is rejected that has none of the members that may be a document."""
    return f"no .{' and no .'.join(sorted(_read_suffixes(fields), reverse=True))}"


def _item(key: str, parts: list[_Part], fields: Fields) -> Item:
    wanted = _read_suffixes(fields)
    found = [part for part in parts if part.suffix in wanted]
    texts = [part for part in found if part.suffix != JSON or fields.text == JSON]
    read = texts or found
    if not read:
        return Item.rejected(no_document(fields))
    if len(read) > 1:
        return Item.rejected(f"two members with the suffix .{read[0].suffix}")
    if texts:
        return text_item(key, texts[0].data.removeprefix(codecs.BOM_UTF8))
    record = parse_line(read[0].data, fields)
    if isinstance(record, str):
        return Item.rejected(f".{JSON}: {record}")
    checked = text_item(key, record.content if isinstance(record.content, bytes) else b"")
    return checked if checked.reason else checked._replace(content=record.content)
