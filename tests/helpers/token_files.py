"""Token ids in the file formats of other programs, written by hand from their descriptions.

Each writer takes the documents as lists of ids, and is slow and obvious.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

Documents = Sequence[Sequence[int]]
MEGATRON_CODES = {"u1": 1, "i1": 2, "i2": 3, "i4": 4, "i8": 5, "f8": 6, "f4": 7, "u2": 8}


def packed(ids: Sequence[int], kind: str) -> bytes:
    """Numbers one after the other, little-endian."""
    return b"".join(np.dtype(f"<{kind}").type(i).tobytes() for i in ids)


def write_megatron(
    stem: Path,
    documents: Sequence[Documents],
    kind: str = "u2",
    *,
    version: int = 1,
    magic: bytes = b"MMIDIDX\0\0",
    modes: bool = False,
) -> None:
    """STEM.bin and STEM.idx; a document is a list of sequences."""
    sequences = [sequence for document in documents for sequence in document]
    data = [packed(sequence, kind) for sequence in sequences]
    stem.with_suffix(".bin").write_bytes(b"".join(data))
    bounds = [0]
    for document in documents:
        bounds.append(bounds[-1] + len(document))
    pointers = [sum(map(len, data[:i])) for i in range(len(data))]
    stem.with_suffix(".idx").write_bytes(
        magic
        + struct.pack("<Q", version)
        + struct.pack("<B", MEGATRON_CODES[kind])
        + struct.pack("<QQ", len(sequences), len(bounds))
        + b"".join(struct.pack("<i", len(sequence)) for sequence in sequences)
        + b"".join(struct.pack("<q", pointer) for pointer in pointers)
        + b"".join(struct.pack("<q", bound) for bound in bounds)
        + (bytes(len(sequences)) if modes else b"")
    )


def write_datatrove(
    path: Path, documents: Documents, kind: str = "u2", *, metadata: str | None = None
) -> None:
    """PATH, which ends in .ds, and its index."""
    path.write_bytes(b"".join(packed(ids, kind) for ids in documents))
    ends = [sum(map(len, documents[: i + 1])) for i in range(len(documents))]
    path.with_name(f"{path.name}.index").write_bytes(
        b"".join(struct.pack("<Q", end) for end in ends)
    )
    if metadata is not None:
        path.with_name(f"{path.name}.metadata").write_text(metadata)


MDS_CODES = {"uint8": 8, "int8": 9, "uint16": 16, "int16": 17, "float16": 18, "uint32": 32}
MDS_CODES |= {"int32": 33, "float32": 34, "uint64": 64, "int64": 65, "float64": 66}


def mds_value(encoding: str, value: Any) -> bytes:
    """The bytes of a value: text, bytes, a number or an array."""
    name, *details = encoding.split(":")
    if name == "str":
        return value.encode()
    if name == "bytes":
        return value
    if name != "ndarray":
        return np.dtype("int64" if name == "int" else name).type(value).tobytes()
    array = np.asarray(value, details[0] if details else None)
    head = b"" if details else bytes([MDS_CODES[array.dtype.name]])
    if len(details) < 2:
        size = next(i for i in range(4) if max(array.shape) < 1 << (8 << i))
        head += bytes([array.ndim << 2 | size])
        head += np.array(array.shape, f"<u{1 << size}").tobytes()
    return head + array.tobytes()


def mds_size(encoding: str) -> int | None:
    """The bytes of every value of an encoding; None if they differ."""
    name, *details = encoding.split(":")
    if name == "ndarray":
        shape = details[1].split(",") if len(details) == 2 else None
        return int(np.prod([*map(int, shape)])) * np.dtype(details[0]).itemsize if shape else None
    return (
        None if name in ("str", "bytes") else np.dtype("int64" if name == "int" else name).itemsize
    )


def write_mds(
    folder: Path,
    shards: Sequence[Sequence[Mapping[str, Any]]],
    columns: Mapping[str, str],
    *,
    compress: Callable[[bytes], bytes] | None = None,
    suffix: str = ".zstd",
    hashes: Sequence[str] = (),
    change: Callable[[dict[str, Any]], object] = lambda index: None,
) -> None:
    """A folder of shards and its index.json; `change` changes the index before it is written."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(columns)
    config = {
        "version": 2,
        "format": "mds",
        "compression": "zstd" if compress else None,
        "hashes": [*hashes],
        "size_limit": 1 << 26,
        "column_names": names,
        "column_encodings": [columns[name] for name in names],
        "column_sizes": [mds_size(columns[name]) for name in names],
    }
    entries = []
    for number, rows in enumerate(shards):
        body = []
        for row in rows:
            values = [mds_value(columns[name], row[name]) for name in names]
            sizes = [
                len(value)
                for name, value in zip(names, values, strict=True)
                if mds_size(columns[name]) is None
            ]
            body.append(b"".join([*(struct.pack("<I", size) for size in sizes), *values]))
        told = json.dumps(config, sort_keys=True).encode()
        first = 4 + 4 * (len(rows) + 1) + len(told)
        starts = [first + sum(map(len, body[:i])) for i in range(len(rows) + 1)]
        raw = struct.pack(f"<{len(rows) + 2}I", len(rows), *starts) + told + b"".join(body)
        name = f"shard.{number:05}.mds"
        entry: dict[str, Any] = {"samples": len(rows), "raw_data": told_of(name, raw, hashes)}
        entry["zip_data"] = None
        if compress is not None:
            zipped = compress(raw)
            entry["zip_data"] = told_of(f"{name}{suffix}", zipped, hashes)
            (folder / f"{name}{suffix}").write_bytes(zipped)
        else:
            (folder / name).write_bytes(raw)
        entries.append({**entry, **config})
    index = {"version": 2, "shards": entries}
    change(index)
    (folder / "index.json").write_text(json.dumps(index, sort_keys=True))


def told_of(name: str, data: bytes, hashes: Sequence[str]) -> dict[str, Any]:
    """What the index says of a file."""
    digests = {
        kind: getattr(xxhash, kind)(data).hexdigest()
        if kind.startswith("xxh")
        else hashlib.new(kind, data).hexdigest()
        for kind in hashes
    }
    return {"basename": name, "bytes": len(data), "hashes": digests}
