"""Files of a source: written, listed, and read as a job reads them."""

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
import zstandard

from exactcpt.pipeline.core.choices import Format
from exactcpt.pipeline.sources.listing import InputFile, Listing, Source, find_files
from exactcpt.pipeline.sources.reading import BadFileError, read_member
from exactcpt.pipeline.sources.records import Fields, Rejected
from exactcpt.pipeline.sources.scanning import scan
from exactcpt.pipeline.sources.splits import Split, make_splits

TEXT = Fields()
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize 12345\n" % (b"4d7a" * 16)
ANNEX = b"/annex/objects/SHA256E-s12--98ea.jsonl\n"
"""Files that stand for others; see schemas/pointers.py."""
BOM = b"\xef\xbb\xbf"
Records = list[tuple[str, bytes]]


def find(
    pattern: object, file_format: Format | None = None, split: str | None = None
) -> list[InputFile]:
    return listing(pattern, file_format, split).files


def listing(
    pattern: object, file_format: Format | None = None, split: str | None = None
) -> Listing:
    return find_files(
        Source(name="books", pattern=str(pattern), fields=TEXT, format=file_format, split=split)
    )


def paths(files: list[InputFile]) -> list[str]:
    return [file.path for file in files]


def read(splits: list[Split], fields: Fields = TEXT) -> tuple[Records, list[Rejected]]:
    """All records of the splits, read as a job does it."""
    records: Records = []
    rejected: list[Rejected] = []
    members = [member for split in splits for member in split.members]
    newlines: dict[str, dict[int, int]] = {}
    for file in {m.file.url: m.file for m in members if m.file.bytes is not None}.values():
        newlines[file.url] = scan(file, [m.start for m in members if m.file == file]).newlines
    for member in members:
        before = newlines.get(member.file.url, {}).get(member.start, 0)
        for batch in read_member(member, fields, before):
            texts = [batch.content[i].tobytes() for i in range(len(batch.content))]
            records += zip(batch.ids.to_pylist(), texts, strict=True)
            rejected += batch.rejected
    return records, rejected


def read_all(
    pattern: object, split_bytes: int = 1 << 30, file_format: Format | None = None
) -> Records:
    records, rejected = read(make_splits(find(pattern, file_format), split_bytes))
    assert rejected == []
    return records


def bad(pattern: object) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        read_all(pattern)
    assert caught.value.where == find(pattern)[0].url
    assert caught.value.found.startswith("a file cannot be read to its end: ")
    assert caught.value.fix == "restore the file"
    return caught.value


def jsonl(*texts: str, first: int = 0) -> bytes:
    return b"".join(
        json.dumps({"text": text, "id": f"d{n}"}).encode() + b"\n"
        for n, text in enumerate(texts, first)
    )


TEXTS = [f"text number {n} " + "x" * (n % 7) for n in range(60)]
EXPECTED: Records = [(f"d{n}", text.encode()) for n, text in enumerate(TEXTS)]


def put(url: str, data: bytes) -> None:
    with fsspec.open(url, "wb") as file:
        file.write(data)  # pyright: ignore


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".zst": zstd,
    ".zstd": zstd,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
COMPRESSION = {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd", ".bz2": "bzip2", ".xz": "xz"}


def write_arrow(path: Path, table: pa.Table, writer: Callable[..., Any]) -> None:
    with writer(path, table.schema) as sink:
        sink.write_table(table, max_chunksize=25)


TABLE = pa.table({"other": range(60), "text": TEXTS, "id": [i for i, _ in EXPECTED]})
