"""The probe: reads the beginning of every source before any work starts.

The beginning of one to three files per source is enough to see whether records have the field at
all, to compare the tokenizer backends on real documents, and to estimate tokens and disk space.
"""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ...schemas.errors import ExactcptError
from ...schemas.sizes import plural
from ..files.storage import open_input
from ..sources import datatrove, delimited, hub, mds, megatron, npy, webdataset, wet
from ..sources.compression import DecompressedStream, open_decompressed
from ..sources.listing import InputFile
from ..sources.reading import (
    BLOCK_BYTES,
    BadFileError,
    batches_of,
    read_member,
    record_batches,
)
from ..sources.records import Batch, Fields, Strings
from ..sources.scanning import refuse_pointer_file
from ..sources.splits import Member
from .parity import sample
from .plan import TokenizePlan

__all__ = ["Probe", "look_at", "probe_sources"]

FILES_TRIED = 3
"""Files of a source that are opened at most, in search of a document."""


@dataclass(frozen=True)
class Probe:
    """The beginning of a source.

    Attributes:
        documents: some of its documents, together at most 64 KiB; texts, or token ids.
        density: bytes of text (or token ids) per byte of its files.
    """

    documents: Strings
    density: float


def probe_sources(plan: TokenizePlan) -> dict[str, Probe]:
    """Reads the beginning of every source of a plan.

    Raises:
        ExactcptError: a source has no documents with the field that is to be read.
    """
    skip = plan.config.on_bad_file == "skip"
    return {
        name: look_at(name, files, plan.fields[name], skip_bad_files=skip)
        for name, files in plan.files.items()
    }


def look_at(
    source: str, files: Sequence[InputFile], fields: Fields, *, skip_bad_files: bool = False
) -> Probe:
    """Reads the beginning of a source.

    Args:
        source: its name.
        files: all its files; the first few are tried until one has a document.
        fields: what to read.
        skip_bad_files: whether files that cannot be read are silently passed over.

    Raises:
        ExactcptError: none of the files tried has a record with the field, none of the first
            documents has the id that was asked for, or a file is a pointer of Git LFS.
        BadFileError: none of the files tried has a document, and one cannot be read.
    """
    problem: ExactcptError | None = None
    for file in files[:FILES_TRIED]:
        refuse_pointer_file(file)
        try:
            batch = next(read_member(_beginning(file), fields), None)
            if batch is None:
                continue
            if len(batch.content):
                _refuse_without_id(source, file, fields, batch)
                return Probe(_some(batch.content, fields), _density(file, batch, fields))
            problem = problem or _without_field(source, file, fields, batch)
        except BadFileError as error:
            problem = problem or (None if skip_bad_files else error)
    if problem is not None:
        raise problem
    return Probe(Strings(np.zeros(1, np.int64), np.empty(0, np.uint8)), 1.0)


def _beginning(file: InputFile) -> Member:
    plain = file.format == "jsonl" and file.compression is None
    return Member(file=file, stop=_plain_bytes(file) if plain else None)


def _plain_bytes(file: InputFile) -> int:
    return BLOCK_BYTES if file.bytes is None else min(BLOCK_BYTES, file.bytes)


def _some(content: Strings, fields: Fields) -> Strings:
    if fields.tokens is not None:
        return content.select(np.arange(len(content)) < 100)
    spread = np.arange(len(content), dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return sample(content, spread)


def _without_field(
    source: str, file: InputFile, fields: Fields, batch: Batch
) -> ExactcptError | None:
    """The error to raise if the field is missing in what was read; else None."""
    if file.format == "webdataset":
        return _without_member(source, file, fields, batch)
    reasons = {record.reason for record in batch.rejected}
    missing = [name for name in fields.of_document if f"no field {name!r}" in reasons]
    if not missing:
        return None
    options = "text=FIELD (or ,tokens=FIELD)"
    if fields.form is not None:
        options = "prompt=FIELD, ,answer=FIELD and ,context=FIELD, or ,messages=FIELD,"
    return ExactcptError(
        f"source {source!r}: no record has a field {missing[0]!r}",
        where=file.url,
        expected=f"one of its fields: {', '.join(_fields_of(file))}",
        fix=_unwrapping(file, batch) or f"name the field with ,{options} in the source",
    )


def _without_member(
    source: str, file: InputFile, fields: Fields, batch: Batch
) -> ExactcptError | None:
    """The error to raise if no sample of an archive has a member with a document; else None."""
    missing = webdataset.no_document(fields)
    if not any(record.reason == missing for record in batch.rejected):
        return None
    return ExactcptError(
        f"source {source!r}: no sample has a document: {missing}",
        where=file.url,
        expected="a member .txt or .json in each sample, or the one that text=SUFFIX names",
        fix="name the suffix of the members, or the field of .json, with ,text=FIELD in the source",
    )


def _unwrapping(file: InputFile, batch: Batch) -> str | None:
    """How to get at the records of a file that is one object with a list of them; else None."""
    if len(batch.rejected) != 1 or file.format != "jsonl":
        return None
    lists = [
        name
        for record in _first_records(file)
        for name, value in record.items()
        if isinstance(value, list) and value and isinstance(value[0], dict)
    ]
    if len(lists) != 1:
        return None
    records = shlex.quote(f".[{json.dumps(lists[0])}][]")
    name = shlex.quote(PurePosixPath(file.path).name)
    return (
        f"if the records are in {lists[0]!r}, write each on its line: jq -c {records} {name} "
        "> NEW.jsonl"
    )


def _refuse_without_id(source: str, file: InputFile, fields: Fields, batch: Batch) -> None:
    if fields.names_id and batch.without_id == len(batch.content):
        raise ExactcptError(
            f"source {source!r}: none of the first {plural(batch.without_id, 'document')} has a "
            f"field {fields.id!r}",
            where=file.url,
            expected=f"one of its fields: {', '.join(_fields_of(file))}",
            fix="name the field with ,id=FIELD in the source; without it, a document's id is its "
            "file with the line or row",
        )


def _fields_of(file: InputFile) -> list[str]:
    """The fields or columns of the first records, in order of appearance."""
    match file.format:
        case "parquet":
            with open_input(file.url) as raw:
                return pq.read_schema(raw).names
        case "arrow":
            with open_input(file.url) as raw:
                return next(iter(record_batches(raw))).schema.names
        case "mds":
            return mds.column_names(file)
        case "hub":
            return next(hub.read_shard(file.url, 0)).schema.names
        case "csv" | "tsv":
            with open_decompressed(file) as raw:
                return [*delimited.column_names(raw, file, Fields())]
        case "wet":
            return [wet.RECORD_ID, wet.TARGET]
    return list(dict.fromkeys(name for record in _first_records(file) for name in record))


def _first_records(file: InputFile) -> list[dict[str, Any]]:
    """Some of the first objects of a file of JSON Lines."""
    with open_decompressed(file) as raw:
        lines = raw.read(BLOCK_BYTES).split(b"\n")
    found: list[dict[str, Any]] = []
    for line in lines[:100]:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def _density(file: InputFile, batch: Batch, fields: Fields) -> float:
    """Bytes of text (or token ids) per byte of a file of which `batch` is the beginning."""
    items = len(batch.content.data)
    rows = len(batch.content) + len(batch.rejected)
    size = max(1, file.bytes or 1)
    match file.format:
        case "text":
            return items / size
        case "parquet":
            with open_input(file.url) as raw:
                return items / rows * pq.ParquetFile(raw).metadata.num_rows / size
        case "arrow":
            with open_input(file.url) as raw:
                read = next(iter(record_batches(raw))).slice(0, rows)
                return items / max(1, read.nbytes)
        case "jsonl":
            text, held = _first_block(file)
            # A line longer than a block is read whole, so the batch may hold more than the block.
            return min(items, text) / max(1, held)
        case "csv" | "tsv" | "webdataset" | "wet":
            return items / _bytes_of_first_batch(file, fields)
        case "megatron":
            return 1 / megatron.bytes_per_id(file)
        case "datatrove":
            return 1 / datatrove.bytes_per_id(file)
        case "npy":
            return 1 / npy.bytes_per_id(file)
        case "mds":
            return items / rows * mds.sample_count(file) / size
        case "hub":
            return 1.0


def _bytes_of_first_batch(file: InputFile, fields: Fields) -> int:
    """How many of a file's bytes are read for its first batch of records."""
    with open_input(file.url) as raw:
        stream = raw if file.compression is None else DecompressedStream(raw, file.compression)
        next(batches_of(stream, file, fields))
        return max(1, raw.tell())


def _first_block(file: InputFile) -> tuple[int, int]:
    """How long the first block of lines is, and how many of the file's bytes hold it."""
    if file.compression is None:
        return _plain_bytes(file), _plain_bytes(file)
    with open_input(file.url) as raw:
        block = DecompressedStream(raw, file.compression).read(BLOCK_BYTES)
        return len(block), min(raw.tell(), file.bytes or 1)
