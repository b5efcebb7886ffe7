"""A token store and a shard set written by hand, as the page on the formats says, value by value.

Slow and obvious, and free of the code under test: only the schemas are shared with it.
"""

import hashlib
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from exactcpt.schemas import shard, store

EOS, PAD, LARGEST = 98, 99, 99
UNKNOWN = 5
SEED, VALIDATION_FRACTION = 0, 0.25
SPLIT, MIXING = 3, 4
TOKENIZE = {"min_tokens": 0}
Segment = tuple[int, int, int]  # document, offset, length; document -1 is padding


@dataclass
class Document:
    length: int
    split: str = "train"
    copies: int = 1
    reason: str | None = None
    text: str | None = None
    answers: tuple[tuple[int, int], ...] | None = None  # spans; None for all tokens

    def tokens(self, number: int) -> list[int]:
        return [(7 * number + 3 * i) % EOS for i in range(self.length - 1)] + [EOS]

    @property
    def spans(self) -> list[dict[str, int]]:
        runs = self.answers or ((0, self.length),)
        return [{"start": start, "stop": stop} for start, stop in runs]

    def is_supervised(self, at: int) -> bool:
        return any(span["start"] <= at < span["stop"] for span in self.spans)

    def content_hash(self, number: int) -> bytes:
        """The hash of its text, or of one that selection would treat as this document says."""
        if self.text:
            return xxhash.xxh3_128_digest(self.text.encode())
        texts = (f"text {number}, draft {draft}" for draft in itertools.count())
        hashes = (xxhash.xxh3_128_digest(text.encode()) for text in texts)
        return next(found for found in hashes if self._suits(found))

    def _suits(self, content_hash: bytes) -> bool:
        """Its side of the split is right, and its rank is low unless mixing drops it."""
        validates = draw(content_hash, SPLIT) < int(VALIDATION_FRACTION * 2**64)
        high = draw(content_hash, MIXING) >= 2**63
        return validates == (self.split == "validation") and high == (self.reason == "mixing")


def draw(content_hash: bytes, purpose: int) -> int:
    """A hash mixed for a purpose."""
    sequence = np.random.SeedSequence(SEED, spawn_key=(purpose,))
    z = int.from_bytes(content_hash[:8], "big") + int(sequence.generate_state(1, np.uint64)[0])
    z %= 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@dataclass
class Corpus:
    """Parts in the order of their names, each (source, documents)."""

    parts: list[tuple[str, list[Document]]]
    window: int = 64
    packing: str = "concat"
    windows_per_shard: int = 5
    dedup: str = "none"
    mixing: dict[str, float] = field(default_factory=dict)
    tau: int = 16
    alpha: float = 0.15
    gamma: float = 0.5
    max_weight: float | None = None

    @property
    def documents(self) -> list[Document]:
        return [document for _, documents in self.parts for document in documents]

    @property
    def has_spans(self) -> bool:
        return any(document.answers for document in self.documents)

    @property
    def tokenize(self) -> dict[str, Any]:
        if not self.has_spans:
            return TOKENIZE
        fields = {"prompt": "q", "answer": "a", "id": "id", "format": "by name"}
        return {**TOKENIZE, "sources": dict.fromkeys(self.sources, fields)}

    def supervises(self, number: int, at: int) -> bool:
        return self.documents[number].is_supervised(at)

    @property
    def sources(self) -> list[str]:
        return sorted({source for source, _ in self.parts})

    @property
    def source_of(self) -> list[str]:
        return [source for source, documents in self.parts for _ in documents]


def part_ordinal(i: int) -> str:
    return f"{i:06d}-0000"


# Packing


def pack(corpus: Corpus, split: str) -> list[list[Segment]]:
    """Windows of segments; occurrences are taken copy by copy."""
    order = [
        number
        for copy in range(max((d.copies for d in corpus.documents), default=0))
        for number, d in enumerate(corpus.documents)
        if d.split == split and d.copies > copy
    ]
    how = {"concat": _concat, "best_fit": _first_fit}[corpus.packing]
    windows = how([(n, corpus.documents[n].length) for n in order], corpus.window)
    for window in windows:
        room = corpus.window - sum(length for _, _, length in window)
        if room:
            window.append((-1, 0, room))
    return windows


def _concat(occurrences: list[tuple[int, int]], size: int) -> list[list[Segment]]:
    windows: list[list[Segment]] = []
    room = 0
    for number, length in occurrences:
        offset = 0
        while offset < length:
            if not room:
                windows.append([])
                room = size
            taken = min(room, length - offset)
            windows[-1].append((number, offset, taken))
            offset, room = offset + taken, room - taken
    return windows


def _first_fit(occurrences: list[tuple[int, int]], size: int) -> list[list[Segment]]:
    windows: list[list[Segment]] = []
    for number, length in occurrences:
        for offset in range(0, length, size):
            taken = min(size, length - offset)
            for window in windows:
                if sum(segment[2] for segment in window) + taken <= size:
                    window.append((number, offset, taken))
                    break
            else:
                windows.append([(number, offset, taken)])
    return windows


# Contexts, codes, weights


def bucket(context: int) -> int:
    b = 0
    while context > 2 ** (b + 3) - 1:
        b += 1
    return b


Supervises = Callable[[int, int], bool]  # document, position in it


def window_codes(segments: list[Segment], supervises: Supervises = lambda *_: True) -> list[int]:
    codes = []
    for document, offset, length in segments:
        for context in range(length):
            supervised = document != -1 and context >= 1 and supervises(document, offset + context)
            codes.append(1 + bucket(context) if supervised else 0)
    return codes


def histogram(
    windows: list[list[Segment]],
    size: int,
    wanted: Callable[[int], bool] = lambda _: True,
    supervises: Supervises = lambda *_: True,
) -> list[int]:
    counts = [0] * (bucket(size - 1) + 1)
    for segments in windows:
        for document, offset, length in segments:
            for context in range(1, length):
                if document != -1 and wanted(document) and supervises(document, offset + context):
                    counts[bucket(context)] += 1
    return counts


def weight_table(counts: list[int], corpus: Corpus) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for b, count in enumerate(counts):
        low = 0 if b == 0 else 2 ** (b + 2)
        rows.append(
            {
                "bucket": b,
                "low": low,
                "high": min(2 ** (b + 3) - 1, corpus.window - 1),
                "targets": count,
                "in_tail": low >= corpus.tau and count > 0,
                "share": None,
                "inverse_frequency": None,
                "weight": 1.0,
            }
        )
    tail = [row for row in rows if row["in_tail"]]
    for row in tail:
        row["share"] = row["targets"] / sum(r["targets"] for r in tail)
        row["inverse_frequency"] = (row["share"] + 1e-8) ** -corpus.gamma
    capped: list[dict[str, Any]] = []
    while tail:
        free = [row for row in tail if row not in capped]
        room = (corpus.max_weight or float("inf")) - 1
        left = corpus.alpha - sum(row["share"] * room for row in capped)
        mean = sum(row["share"] * row["inverse_frequency"] for row in free)
        for row in free:
            row["weight"] = 1 + left * row["inverse_frequency"] / mean
        over = [row for row in free if row["weight"] - 1 > room]
        for row in over:
            row["weight"] = 1 + room
        capped += over
        if not over:
            break
    return rows


# Files


def checksum(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return {"bytes": len(data), "xxh3_128": xxhash.xxh3_128_hexdigest(data)}


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def read_manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def tokenizer(folder: Path) -> dict[str, Any]:
    words = {f"t{i}": i for i in range(LARGEST + 1)} | {"<eos>": EOS, "<pad>": PAD}
    vocabulary = {word: i for word, i in words.items() if word not in (f"t{EOS}", f"t{PAD}")}
    model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "none"}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": model}))
    return {
        "sha256": hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest(),
        "largest_id": LARGEST,
        "bos_id": None,
        "eos_id": EOS,
        "pad_id": PAD,
        "unk_id": UNKNOWN,
        "eos_token": "<eos>",
        "backend": {"requested": "auto", "used": "tokenizers", "fallback": None},
    }


def read_counts(corpus: Corpus, source: str) -> dict[str, Any]:
    numbered = enumerate(zip(corpus.documents, corpus.source_of, strict=True))
    mine = [(n, document) for n, (document, s) in numbered if s == source]
    tokens = [document.tokens(n) for n, document in mine]
    return {
        "documents": len(mine),
        "tokens": sum(map(len, tokens)),
        "text_bytes": 1000,
        "rejected": {},
        "dropped": {},
        "encoding": {
            "unknown_tokens": sum(each.count(UNKNOWN) for each in tokens),
            "inner_ends": sum(each[:-1].count(EOS) for each in tokens),
            "documents_with_inner_ends": sum(EOS in each[:-1] for each in tokens),
            "sampled_characters": 900,
            "lost_characters": 3,
        },
    }


def write_store(folder: Path, corpus: Corpus, rows_per_batch: int = 3) -> None:
    (folder / "parts").mkdir(parents=True)
    parts = []
    first = 0
    for i, (source, documents) in enumerate(corpus.parts):
        ordinal = part_ordinal(i)
        numbers = range(first, first + len(documents))
        columns = {
            "id": [f"{source}:{n}" for n in numbers],
            "tokens": [d.tokens(n) for n, d in zip(numbers, documents, strict=True)],
        }
        index = {
            "length": [d.length for d in documents],
            "content_hash": [d.content_hash(n) for n, d in zip(numbers, documents, strict=True)],
            "row": list(range(len(documents))),
        }
        if corpus.has_spans:
            index[shard.SUPERVISED] = [d.spans for d in documents]
        write_part(folder, ordinal, source, columns, index, rows_per_batch)
        parts.append(
            {
                "part": ordinal,
                "source": source,
                "documents": len(documents),
                "tokens": sum(d.length for d in documents),
                "file": {"path": store.part_name(ordinal)},
                "index": {"path": store.index_name(ordinal)},
            }
        )
        first += len(documents)
    manifest = {
        "format": "exactcpt token store",
        "format_version": 2 if corpus.has_spans else 1,
        "versions": {"exactcpt": "0"},
        "settings": corpus.tokenize,
        "tokenizer": tokenizer(folder),
        "inputs": [],
        "sources": [{"name": s, "read": read_counts(corpus, s)} for s in corpus.sources],
        "parts": parts,
        "warnings": [],
    }
    write_manifest(folder, manifest)
    refresh_store(folder)


def write_part(
    folder: Path,
    ordinal: str,
    source: str,
    columns: dict[str, list[Any]],
    index: dict[str, list[Any]],
    rows_per_batch: int,
) -> None:
    for path, schema, values in (
        (store.part_name(ordinal), store.part_schema(source), columns),
        (store.index_name(ordinal), store.index_schema(shard.SUPERVISED in index), index),
    ):
        with pa.ipc.new_file(folder / path, schema) as writer:
            writer.write_table(pa.table(values, schema), rows_per_batch)


def refresh_store(folder: Path) -> None:
    manifest = read_manifest(folder)
    for part in manifest["parts"]:
        for file in (part["file"], part["index"]):
            file.update(checksum(folder / file["path"]))
    write_manifest(folder, manifest)


def shard_columns(corpus: Corpus, windows: list[list[Segment]]) -> dict[str, list[Any]]:
    """The columns of a shard as lists; loss_weight is given by `codes` and `dictionary`."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("input_ids", "codes", "seq_lengths", "doc_index", "doc_offset")
    }
    for segments in windows:
        ids: list[int] = []
        for number, offset, length in segments:
            if number == -1:
                ids += [PAD] * length
            else:
                ids += corpus.documents[number].tokens(number)[offset : offset + length]
        columns["input_ids"].append(ids)
        columns["codes"].append(window_codes(segments, corpus.supervises))
        columns["seq_lengths"].append([length for _, _, length in segments])
        columns["doc_index"].append([number for number, _, _ in segments])
        columns["doc_offset"].append([offset for _, offset, _ in segments])
        if corpus.has_spans:
            columns.setdefault(shard.SUPERVISED, []).append(window_spans(corpus, segments))
    return columns


def window_spans(corpus: Corpus, segments: list[Segment]) -> list[dict[str, int]]:
    """Run by run of supervised tokens, a run for each segment that has some."""
    spans: list[dict[str, int]] = []
    at = 0
    for number, offset, length in segments:
        before = False
        for i in range(length):
            inside = number != -1 and corpus.supervises(number, offset + i)
            if inside and not before:
                spans.append({"start": at + i, "stop": at + i})
            if inside:
                spans[-1]["stop"] += 1
            before = inside
        at += length
    return spans


def write_shard(
    path: Path,
    columns: dict[str, list[Any]],
    schema: pa.Schema,
    *,
    rows_per_batch: int | None = None,
    compression: str | None = None,
) -> None:
    def flat(name: str, kind: pa.DataType) -> pa.Array:
        return pa.array([value for row in columns[name] for value in row], kind)

    def lists(name: str) -> pa.Array:
        lengths = [len(row) for row in columns[name]]
        offsets = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        kind = schema.field(name).type
        values = flat(name, kind.value_type)
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=kind)

    ids, weight = schema.field("input_ids").type, schema.field("loss_weight").type
    weights = pa.DictionaryArray.from_arrays(
        flat("codes", pa.uint8()), pa.array(columns["dictionary"], pa.float32()), safe=False
    )
    batch = pa.RecordBatch.from_arrays(
        [
            pa.FixedSizeListArray.from_arrays(flat("input_ids", ids.value_type), type=ids),
            pa.FixedSizeListArray.from_arrays(weights, type=weight),
            *(lists(name) for name in schema.names[2:]),
        ],
        schema=schema,
    )
    options = pa.ipc.IpcWriteOptions(compression=compression)
    path.parent.mkdir(exist_ok=True)
    with pa.ipc.new_file(path, schema, options=options) as writer:
        rows = rows_per_batch or shard.rows_per_batch(ids.list_size)
        for first in range(0, batch.num_rows, rows):
            writer.write_batch(batch.slice(first, rows))


def read_shard(path: Path) -> dict[str, list[Any]]:
    with pa.ipc.open_file(path.read_bytes()) as reader:
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    columns: dict[str, list[Any]] = {}
    for name in batches[0].schema.names:
        if name == "loss_weight":
            continue
        columns[name] = [row for batch in batches for row in batch.column(name).to_pylist()]
    weights = [batch.column("loss_weight") for batch in batches]
    columns["dictionary"] = weights[0].flatten().dictionary.to_pylist()
    columns["codes"] = [row.values.indices.to_pylist() for column in weights for row in column]
    return columns


def write_documents(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, shard.documents_schema()), path)


def document_rows(corpus: Corpus) -> list[dict[str, Any]]:
    rows = []
    for i, (source, documents) in enumerate(corpus.parts):
        for row, document in enumerate(documents):
            number = len(rows)
            rows.append(
                {
                    "doc_index": number,
                    "id": f"{source}:{number}",
                    "source": source,
                    "part": part_ordinal(i),
                    "row": row,
                    "n_tokens": document.length,
                    "content_hash": document.content_hash(number),
                    "split": document.split,
                    "copies": document.copies,
                    "drop_reason": document.reason,
                }
            )
    return rows


def write_shards(folder: Path, corpus: Corpus, store_folder: Path) -> None:
    folder.mkdir()
    packed = {split: pack(corpus, split) for split in ("train", "validation")}
    counts = histogram(packed["train"], corpus.window, supervises=corpus.supervises)
    table = weight_table(counts, corpus)
    shards: dict[str, list[dict[str, Any]]] = {"train": [], "validation": []}
    for split, windows in packed.items():
        size = corpus.windows_per_shard
        pieces = [windows[i : i + size] for i in range(0, len(windows), size)]
        for i, piece in enumerate(pieces):
            path = shard.shard_name(split, i, len(pieces))
            columns = shard_columns(corpus, piece)
            weights = [row["weight"] if split == "train" else 1.0 for row in table]
            columns["dictionary"] = [0.0, *weights]
            schema = shard.shard_schema(corpus.window, corpus.has_spans)
            write_shard(folder / path, columns, schema)
            shards[split].append({"path": path, "windows": len(piece)})
    rows = document_rows(corpus)
    half = len(rows) // 2
    documents = [{"path": f"documents/part-{i:05d}.parquet"} for i in range(2)]
    for entry, part in zip(documents, (rows[:half], rows[half:]), strict=True):
        write_documents(folder / entry["path"], part)
    tail = [row for row in table if row["in_tail"]]
    manifest = {
        "format": "exactcpt shard set",
        "format_version": 2 if corpus.has_spans else 1,
        "versions": {"exactcpt": "0"},
        "settings": {
            "window": corpus.window,
            "packing": corpus.packing,
            "tau": corpus.tau,
            "alpha": corpus.alpha,
            "gamma": corpus.gamma,
            "epsilon": 1e-8,
            "max_weight": corpus.max_weight,
            "validation_fraction": VALIDATION_FRACTION,
            "token_budget": None,
            "group_tokens": 1 << 28,
            "shard_bytes": 1 << 28,
            "dedup": corpus.dedup,
            "seed": SEED,
            "mixing": {source: {"epochs": e} for source, e in corpus.mixing.items()},
            "tokenize": corpus.tokenize,
        },
        "tokenizer": tokenizer(folder),
        "inputs": [],
        "sources": [source_counts(corpus, source, packed) for source in corpus.sources],
        "splits": {split: split_counts(corpus, windows) for split, windows in packed.items()},
        "weights": {
            "alpha": corpus.alpha,
            "budget": sum(row["share"] * (row["weight"] - 1) for row in tail),
            "table": table,
        },
        "shards": shards,
        "documents": documents,
        "store": {"manifest_xxh3_128": checksum(store_folder / "manifest.json")["xxh3_128"]},
        "warnings": [],
    }
    write_manifest(folder, manifest)
    refresh(folder)


def split_counts(corpus: Corpus, windows: list[list[Segment]]) -> dict[str, Any]:
    segments = [segment for window in windows for segment in window]
    real = [segment for segment in segments if segment[0] != -1]
    counts = histogram(windows, corpus.window, supervises=corpus.supervises)
    return {
        "windows": len(windows),
        "tokens": sum(length for _, _, length in real),
        "padding": sum(length for number, _, length in segments if number == -1),
        "segments": len(real),
        "cut_documents": sum(
            offset == 0 and length < corpus.documents[number].length
            for number, offset, length in real
        ),
        "targets": sum(counts),
        "histogram": counts,
    }


def source_counts(
    corpus: Corpus, source: str, packed: dict[str, list[list[Segment]]]
) -> dict[str, Any]:
    numbers = [n for n, s in enumerate(corpus.source_of) if s == source]
    dropped: dict[str, int] = {}
    for number in numbers:
        reason = corpus.documents[number].reason
        if reason is not None:
            dropped[reason] = dropped.get(reason, 0) + 1
    splits = {}
    for split, windows in packed.items():
        mine = [corpus.documents[n] for n in numbers if corpus.documents[n].split == split]
        counts = histogram(windows, corpus.window, numbers.__contains__, corpus.supervises)
        splits[split] = {
            "documents": sum(document.copies for document in mine),
            "tokens": sum(document.copies * document.length for document in mine),
            "targets": sum(counts),
            "histogram": counts,
        }
    return {
        "name": source,
        "read": read_counts(corpus, source),
        "copies": corpus.mixing.get(source, 1),
        "dropped": dropped,
        "splits": splits,
    }


# Edits: a claim or a file is changed, and the checksums follow


def refresh_checksums(folder: Path) -> None:
    manifest = read_manifest(folder)
    shards = manifest["shards"]
    for entry in [*shards["train"], *shards["validation"], *manifest["documents"]]:
        entry.update(checksum(folder / entry["path"]))
    write_manifest(folder, manifest)


def refresh(folder: Path) -> None:
    refresh_checksums(folder)
    manifest = read_manifest(folder)
    for entry in manifest["documents"]:
        entry["rows"] = pq.read_metadata(folder / entry["path"]).num_rows
    write_manifest(folder, manifest)


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = read_manifest(folder)
    edit(manifest)
    write_manifest(folder, manifest)


def edit_shard(
    folder: Path,
    path: str,
    edit: Callable[[dict[str, list[Any]]], object],
    *,
    schema: pa.Schema | None = None,
    rows_per_batch: int | None = None,
    compression: str | None = None,
) -> None:
    columns = read_shard(folder / path)
    edit(columns)
    window = read_manifest(folder)["settings"]["window"]
    write_shard(
        folder / path,
        columns,
        schema or shard.shard_schema(window, shard.SUPERVISED in columns),
        rows_per_batch=rows_per_batch,
        compression=compression,
    )
    refresh(folder)


def edit_documents(folder: Path, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    """Edits all rows; they are written back into the files they came from."""
    paths = [folder / entry["path"] for entry in read_manifest(folder)["documents"]]
    tables = [pq.read_table(path).to_pylist() for path in paths]
    rows = [row for table in tables for row in table]
    edit(rows)
    for path, table in zip(paths, tables, strict=True):
        write_documents(path, rows[: len(table)])
        rows = rows[len(table) :]
    refresh(folder)


def edit_part(
    folder: Path, i: int, edit: Callable[[dict[str, list[Any]], dict[str, list[Any]]], object]
) -> None:
    """Edits a part's columns and its index; the shard set then names the changed store."""
    entry = read_manifest(folder)["parts"][i]
    columns, index = (
        pa.ipc.open_file((folder / entry[key]["path"]).read_bytes()).read_all().to_pydict()
        for key in ("file", "index")
    )
    edit(columns, index)
    write_part(folder, entry["part"], entry["source"], columns, index, 3)
    refresh_store(folder)


def adopt_store(folder: Path, store_folder: Path) -> None:
    """Lets the shard set name the store as it is now."""
    digest = checksum(store_folder / "manifest.json")["xxh3_128"]
    edit_manifest(folder, lambda m: m["store"].update(manifest_xxh3_128=digest))
