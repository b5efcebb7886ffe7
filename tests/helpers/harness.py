"""Runs the program as its users do, and reads back what it wrote without its own code."""

import gzip
import hashlib
import io
import json
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from tokenizers import Tokenizer

from exactcpt.pipeline.cli import run_command

DATA = Path(__file__).parents[1] / "data"
TOKENIZER = DATA / "tokenizer.json"
EOS = 0
CORPORA = {
    "novels": "novels.jsonl.zst",
    "jargon": "jargon.jsonl.gz",
    "poems": "poems.jsonl",
    "proposals": "proposals.jsonl",
}
SCRIPT = Path(sysconfig.get_path("scripts")) / "exactcpt"

Record = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def run(*arguments: object) -> Outcome:
    """Runs a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run_command([str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> Outcome:
    """Runs a command that has to succeed."""
    outcome = run(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def start(*arguments: object, **how: Any) -> "subprocess.Popen[str]":
    """Starts the installed program as a process of its own."""
    command = [str(SCRIPT), *(str(argument) for argument in arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **(pipes | how))


def finish(process: Any, seconds: float = 300) -> Outcome:
    """Waits for a started program."""
    out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out or "", err or "")


def until(condition: Callable[[], object], seconds: float = 120) -> bool:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def children_of(process: Any) -> list[psutil.Process]:
    """All processes below a program."""
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run; one that has ended but was not waited for does not."""
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def source(name: str, pattern: object, **options: object) -> list[str]:
    """A --source flag."""
    more = "".join(f",{key}={value}" for key, value in options.items())
    return ["--source", f"{name}={pattern}{more}"]


def bundled(folder: object = DATA, **options: str) -> list[str]:
    """The flags for the four bundled corpora; `options` go after a corpus' pattern."""
    flags = [
        f"--source={name}={folder}/{file}{options.get(name, '')}" for name, file in CORPORA.items()
    ]
    return [*flags, f"--tokenizer={folder}/tokenizer.json"]


def small(folder: Path, texts: Iterable[str] = (), name: str = "docs.jsonl") -> list[str]:
    """The flags for a source of a few documents, written into the folder."""
    path = write_jsonl(folder / name, [{"id": f"d{i}", "text": t} for i, t in enumerate(texts)])
    return [*source("docs", path), "--tokenizer", str(TOKENIZER)]


def write_jsonl(path: Path, records: Iterable[Record | bytes]) -> Path:
    """Writes records, or raw lines, compressed as the name says."""
    lines = [
        r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records
    ]
    data = b"".join(line + b"\n" for line in lines)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def files(folder: Path) -> dict[str, str]:
    """sha256 of every file of a shard set or store; what restarting needs is no part of either."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".job" not in path.relative_to(folder).parts
    }


def content(out: Path) -> dict[str, dict[str, str]]:
    """Digests of a shard set and of the store beside it."""
    return {"shards": files(out), "store": files(Path(f"{out}.store"))}


def temporaries(*folders: Path) -> list[Path]:
    """Files under a temporary name."""
    return [path for folder in folders for path in folder.rglob(".*.tmp")]


def manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a shard set or store."""
    return json.loads((folder / "manifest.json").read_text("utf-8"))


def read_source(out: Path, name: str = "docs") -> dict[str, Any]:
    """What a manifest says of a source."""
    return next(source for source in manifest(out)["sources"] if source["name"] == name)


def shards(out: Path, split: str) -> Iterator[pa.RecordBatch]:
    """The record batches of a split, in order."""
    for path in sorted((out / split).glob("*.arrow")):
        with pa.memory_map(str(path)) as view:
            reader = pa.ipc.open_file(view)
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i)


def windows(out: Path, split: str = "train") -> list[Record]:
    """All windows of a split as plain lists."""
    return [row for batch in shards(out, split) for row in batch.to_pylist()]


def occurrences(out: Path, split: str = "train") -> dict[int, list[int]]:
    """The tokens that a split has of each document: copies one after the other, pieces in order."""
    pieces: dict[int, dict[int, list[list[int]]]] = {}
    for row in windows(out, split):
        at = 0
        columns = (row["seq_lengths"], row["doc_index"], row["doc_offset"])
        for length, document, offset in zip(*columns, strict=True):
            run = row["input_ids"][at : at + length]
            if document >= 0:
                pieces.setdefault(document, {}).setdefault(offset, []).append(run)
            at += length
    return {
        document: [token for at in sorted(found) for run in found[at] for token in run]
        for document, found in pieces.items()
    }


def documents(out: Path) -> list[Record]:
    """The documents table."""
    paths = sorted((out / "documents").glob("*.parquet"))
    return [row for path in paths for row in pq.read_table(path).to_pylist()]


def stored(store: Path) -> dict[str, list[int]]:
    """The tokens of each document of a store, by id."""
    found: dict[str, list[int]] = {}
    for path in sorted((store / "parts").glob("*.arrow")):
        if not path.name.endswith(".index.arrow"):
            table = pa.ipc.open_file(str(path)).read_all()
            found |= dict(zip(table["id"].to_pylist(), table["tokens"].to_pylist(), strict=True))
    return found


def rejected(store: Path) -> list[Record]:
    """The records that a store lists as rejected, in order."""
    paths = sorted((store / "rejected").glob("*.jsonl"))
    return [json.loads(line) for path in paths for line in path.read_text("utf-8").splitlines()]


def bundled_records(name: str) -> list[Record]:
    """The records of a bundled corpus."""
    path = DATA / CORPORA[name]
    opener = {".gz": gzip.open, ".zst": zstandard.open}.get(path.suffix, open)
    with opener(path, "rb") as stream:
        return [json.loads(line) for line in stream.read().splitlines()]


def encode(text: str) -> list[int]:
    """The reference's ids of a text, special tokens read as text."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False).ids


def changed_tokenizer(
    folder: Path, change: Callable[[dict[str, Any]], None], **config: Any
) -> Path:
    """A copy of the bundled tokenizer with changes; `config` goes into tokenizer_config.json."""
    tokenizer = json.loads(TOKENIZER.read_text("utf-8"))
    change(tokenizer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), "utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    return folder


def rename_eos(tokenizer: dict[str, Any], name: str = "<|im_end|>") -> None:
    """Gives the tokenizer's only special token another name."""
    old = tokenizer["added_tokens"][0]["content"]
    vocabulary: Mapping[str, int] = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {(name if t == old else t): i for t, i in vocabulary.items()}
    tokenizer["added_tokens"][0]["content"] = name
