"""Small token stores: made by the units of tokenization, and read back without them."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import xxhash

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.pack.documents import PartRef
from exactcpt.pipeline.sources.listing import Source, find_files
from exactcpt.pipeline.sources.records import Fields
from exactcpt.pipeline.sources.splits import Split, make_splits
from exactcpt.pipeline.tokens.store import StoredFile
from exactcpt.pipeline.tokens.task import TokenizeTask
from exactcpt.pipeline.tokens.tokenizer import TokenizerFile, TokenizerSpec, load_tokenizer
from exactcpt.pipeline.tokens.units import scan_files, scan_tasks, tokenize_split

DATA = Path(__file__).parents[1] / "data"
EOS = 0
FIELDS = Fields(largest_id=4095)
NO_FILE = StoredFile("nowhere", 0, "")


class Stored(NamedTuple):
    """A document as it is in a store."""

    id: str
    tokens: list[int]
    content_hash: bytes
    part: str
    source: str


def bundled() -> TokenizerFile:
    return load_tokenizer(str(DATA))


def task_of(
    store: Path | str,
    *,
    fields: Mapping[str, Fields] | None = None,
    min_tokens: int = 0,
    split_bytes: int = 1 << 20,
    skip_bad_files: bool = False,
    check: bool = True,
    **spec: Any,
) -> TokenizeTask:
    tokenizer = bundled()
    chosen = {
        "backend": "gigatoken",
        "special_tokens_in_text": False,
        "bos_id": None,
        "eos_id": EOS,
        "pad_id": EOS,
    }
    return TokenizeTask(
        store=str(store),
        tokenizer=TokenizerSpec(
            url=tokenizer.where,
            sha256=tokenizer.sha256,
            largest_id=tokenizer.largest_id,
            **(chosen | spec),
        ),
        check=check,
        fields=fields or {"a": FIELDS, "b": FIELDS, "c": FIELDS},
        min_tokens=min_tokens,
        split_bytes=split_bytes,
        skip_bad_files=skip_bad_files,
    )


def splits_of(
    patterns: Mapping[str, Path], split_bytes: int = 1 << 20, fields: Fields = FIELDS
) -> list[Split]:
    files = [
        file
        for name, pattern in patterns.items()
        for file in find_files(Source(name=name, pattern=str(pattern), fields=fields)).files
    ]
    return make_splits(files, split_bytes)


def tokenize_all(splits: Iterable[Split], task: TokenizeTask) -> None:
    """Everything the graph of tokenization does, one unit after the other."""
    splits = list(splits)
    newlines = dict(pair for scan in scan_tasks(splits) for pair in scan_files(scan, task.store))
    for split in splits:
        tokenize_split(split, task, newlines)


def write_jsonl(path: Path, texts: Iterable[str]) -> Path:
    """One record per line; ids are the file's stem and a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"id": f"{path.stem}{i}", "text": text} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records))
    return path


def content_hash(text: str) -> bytes:
    return xxhash.xxh3_128_digest(text.encode())


def summaries(store: Path | str) -> list[dict[str, Any]]:
    folder = Folder(str(store))
    names = [name for name in folder.names("parts") if name.endswith(".json")]
    return [json.loads(folder.read(name)) for name in names]


def read_store(store: Path) -> list[Stored]:
    """All documents in the order of the store."""
    found: list[Stored] = []
    for path in sorted((store / "parts").glob("*-????.arrow")):
        table = pa.ipc.open_file(path).read_all()
        index = pa.ipc.open_file(path.with_suffix(".index.arrow")).read_all().to_pylist()
        source = table.schema.metadata[b"source"].decode()
        rows = zip(table.to_pylist(), index, strict=True)
        for i, (document, row) in enumerate(rows):
            assert row["row"] == i
            assert row["length"] == len(document["tokens"])
            stored = document["id"], document["tokens"], row["content_hash"], path.stem, source
            found.append(Stored(*stored))
    return found


def part_of_nothing(**counts: Any) -> PartRef:
    """A part without files, for what only counts."""
    return PartRef(**counts, file=NO_FILE, index=NO_FILE)


def parts_of(store: Path | str) -> tuple[PartRef, ...]:
    """What packing knows of a store's parts."""
    parts: list[PartRef] = []
    first = 0
    for summary in summaries(store):
        if summary["documents"]:
            named = {key: summary[key] for key in ("part", "source", "documents", "tokens")}
            files = {key: StoredFile(**summary[key]) for key in ("file", "index")}
            parts.append(PartRef(first_document=first, **named, **files))
            first += summary["documents"]
    return tuple(parts)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differing(one: Mapping[str, bytes], other: Mapping[str, bytes]) -> list[str]:
    """The names of files that differ or that only one has: shorter to read than their bytes."""
    return [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
