"""A first look at every source, before any work is paid for.

It reads the beginning of a file or two of each source: enough to see whether the field is there at
all, to compare the tokenizer backends on its documents, and to estimate tokens and disk space.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..schemas.errors import ExactcptError
from .jsonl import Batch, Fields, Strings
from .sources import BadFileError, InputFile, Member, open_decompressed, read_member
from .storage import open_input
from .tokenization import Encoder, sample

__all__ = ["Estimate", "Probe", "estimate", "look_at"]

FILES_TRIED = 3
SHARD_BYTES_PER_TOKEN = 5.1
STORE_BYTES_PER_TOKEN = 4.2
READ_BYTES = 4 << 20


@dataclass(frozen=True)
class Probe:
    """The beginning of a source.

    Attributes:
        documents: some of its documents, together at most 64 KiB; texts, or token ids.
        expansion: bytes of text a byte of its files holds.
    """

    documents: Strings
    expansion: float


@dataclass(frozen=True)
class Estimate:
    """What a job will come to, roughly.

    Attributes:
        tokens: by source; None where a source's size is unknown before it is read.
        windows: of training and validation together.
        store_bytes, shard_bytes: on disk.
    """

    tokens: Mapping[str, int | None]
    windows: int
    store_bytes: int
    shard_bytes: int


def look_at(source: str, files: Sequence[InputFile], fields: Fields) -> Probe:
    """Reads the beginning of a source.

    Raises:
        ExactcptError: its first file has no record with the field.
        BadFileError: none of the files tried can be read.
    """
    problem: BadFileError | None = None
    batch: Batch | None = None
    for file in files[:FILES_TRIED]:
        try:
            batch = next(read_member(_beginning(file), fields), None)
            expansion = _expansion(file)
        except BadFileError as error:
            problem = error
            continue
        if batch is not None and len(batch.content):
            return Probe(_some(batch.content, fields), expansion)
        if batch is not None and batch.rejected:
            _explain_rejection(source, file, fields, batch)
    if problem is not None and batch is None:
        raise problem
    return Probe(Strings(np.zeros(1, np.int64), np.empty(0, np.uint8)), 1.0)


def _beginning(file: InputFile) -> Member:
    plain = file.format == "jsonl" and file.compression is None
    return Member(file=file, stop=min(READ_BYTES, file.bytes or 0) if plain else None)


def _some(content: Strings, fields: Fields) -> Strings:
    if fields.tokens is not None:
        return content.select(np.arange(len(content)) < 100)
    spread = np.arange(len(content), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return sample(content, spread)


def _explain_rejection(source: str, file: InputFile, fields: Fields, batch: Batch) -> None:
    """Raises if what was read has the field nowhere."""
    missing = f"no field {fields.content!r}"
    if any(record.reason != missing for record in batch.rejected):
        return
    raise ExactcptError(
        f"source {source!r}: no record has a field {fields.content!r}",
        where=file.url,
        expected=f"one of the fields it has: {', '.join(_fields_of(file))}",
        fix="name the field with ,text=FIELD (or ,tokens=FIELD) in the source",
    )


def _fields_of(file: InputFile) -> list[str]:
    with open_decompressed(file) as raw:
        lines = raw.read(READ_BYTES).split(b"\n")
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            return list(value)
    return []


def _expansion(file: InputFile) -> float:
    """Bytes of content a byte of the file holds: compression, mostly."""
    if file.format == "hub":
        return 1.0
    with open_input(file.url) as raw:
        if file.compression is not None:
            with pa.CompressedInputStream(pa.PythonFile(raw, "r"), file.compression) as stream:
                size = len(stream.read(READ_BYTES))
                return size / max(1, min(raw.tell(), file.bytes or 1))
        if file.format == "parquet":
            metadata = pq.ParquetFile(raw).metadata
            groups = range(metadata.num_row_groups)
            size = sum(metadata.row_group(i).total_byte_size for i in groups)
            return size / max(1, file.bytes or 1)
    return 1.0


def estimate(
    probes: Mapping[str, Probe],
    files: Mapping[str, Sequence[InputFile]],
    encoder: Encoder,
    fields: Mapping[str, Fields],
    copies: Mapping[str, float],
    window: int | None,
) -> Estimate:
    """Extrapolates from the probes.

    Args:
        probes: by source.
        files: by source.
        encoder: of either backend.
        fields: by source.
        copies: how often a source is seen, where other than once.
        window: of the shards, or None where there will be none.
    """
    tokens: dict[str, int | None] = {}
    for name, probe in probes.items():
        sizes = [file.bytes for file in files[name]]
        if None in sizes:
            tokens[name] = None
            continue
        text = sum(size for size in sizes if size is not None) * probe.expansion
        tokens[name] = int(text * _tokens_per_byte(probe, encoder, fields[name]))
    known = {name: n for name, n in tokens.items() if n is not None}
    packed = sum(int(n * copies.get(name, 1.0)) for name, n in known.items())
    return Estimate(
        tokens=tokens,
        windows=-(-packed // window) if window else 0,
        store_bytes=int(sum(known.values()) * STORE_BYTES_PER_TOKEN),
        shard_bytes=int(packed * SHARD_BYTES_PER_TOKEN) if window else 0,
    )


def _tokens_per_byte(probe: Probe, encoder: Encoder, fields: Fields) -> float:
    if fields.tokens is not None:
        return 1 / 6  # digits and separators of an id in JSON, or its bytes in a column
    size = len(probe.documents.data)
    return len(encoder.encode(probe.documents).data) / size if size else 0.25
