"""`inspect` on a token store of ten million documents, on one core.

    python tests/benchmarks/whatif.py [--documents N] [--work DIR]

The store has an index, as a store has that was tokenized, but no tokens: `inspect` never reads
them. Lengths are lognormal (median 500 tokens, mean about 1,030), from 16 tokens to two million, in
parts of 8,000 documents, of five sources; one document in fifty is there twice. Memory is that of
the process without mapped files. The table, then JSON in the last line.
"""

import argparse
import json
import os
import sys
import sysconfig
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from common import machine, run
from core import realistic_lengths
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from exactcpt.pipeline.files.arrow import write_batches
from exactcpt.pipeline.files.storage import Folder
from exactcpt.schemas.manifest import MANIFEST, TOKEN_STORE, dump
from exactcpt.schemas.store import index_name, index_schema, part_name

EXACTCPT = Path(sysconfig.get_path("scripts")) / "exactcpt"
PACKAGES = ("exactcpt", "pyarrow", "numpy")
SOURCES = ("web", "books", "code", "papers", "wiki")
DOCUMENTS_PER_PART = 8000
MIB = 1 << 20

FOUR_WINDOWS = ["--window", "4096,8192,16384,131072", "--packing", "concat,best_fit"]
QUESTIONS: dict[str, list[str]] = {
    "one window": [],
    "four windows, two packings": FOUR_WINDOWS,
    "the same, 100 weightings each": [
        *FOUR_WINDOWS,
        *("--alpha", "0.05,0.1,0.15,0.2,0.3,0.4,0.5,0.7,1,2"),
        *("--gamma", "0,0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,1"),
    ],
    "the same, dedup and epochs": [
        *FOUR_WINDOWS,
        *("--dedup", "exact", "--epochs", "web=0.5", "--epochs", "books=1.7"),
    ],
}
LIMITED = "four windows, two packings"
SECONDS, MEMORY_MIB = 30.0, 2048.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a question took: wall seconds, and memory at its peak."""

    question: str
    rows: int
    seconds: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    described = {**machine(PACKAGES), "pinned_to": [core]}
    with nullcontext(options.work) if options.work else TemporaryDirectory() as work:
        store = Path(work).resolve() / f"index-of-{options.documents}"
        tokens = make_store(store, options.documents)
        answers = [ask(store, question) for question in QUESTIONS]
    show(answers, options.documents, tokens)
    report = {
        "documents": options.documents,
        "tokens": tokens,
        "machine": described,
        "limit": {"question": LIMITED, "seconds": SECONDS, "peak_mib": MEMORY_MIB},
        "answers": [asdict(answer) for answer in answers],
    }
    sys.stdout.write(json.dumps(report) + "\n")


def ask(store: Path, question: str) -> Answer:
    done = run([EXACTCPT, "inspect", store, *QUESTIONS[question], "--json"], watch=True)
    (subject,) = done.report["subjects"]
    return Answer(
        question=question,
        rows=len(subject["rows"]),
        seconds=round(done.seconds, 2),
        peak_mib=round(done.peak_bytes / MIB, 1),
    )


def show(answers: list[Answer], documents: int, tokens: int) -> None:
    table = Table("question", "rows", "seconds", "peak MiB", "limit", box=SIMPLE_HEAD)
    table.title = f"{documents:,} documents, {tokens:,} tokens, one core"
    for answer in answers:
        met = answer.seconds <= SECONDS and answer.peak_mib <= MEMORY_MIB
        verdict = f"{SECONDS:g} s, {MEMORY_MIB:g} MiB: {'met' if met else 'MISSED'}"
        table.add_row(
            answer.question,
            f"{answer.rows:,}",
            f"{answer.seconds:.1f}",
            f"{answer.peak_mib:,.0f}",
            verdict if answer.question == LIMITED else "",
        )
    Console(width=100).print(table)


def make_store(folder: Path, documents: int) -> int:
    """Writes index and manifest, if they are not there; returns how many tokens there are."""
    store = Folder(str(folder))
    lengths = realistic_lengths(documents)
    if not store.exists(MANIFEST):
        hashes = np.random.default_rng(1).bytes(16 * documents)
        rows = np.frombuffer(hashes, "V16").copy()
        rows[49::50] = rows[48:-1:50]
        parts = [
            write_part(
                store, i, lengths[at : at + DOCUMENTS_PER_PART], rows[at:][:DOCUMENTS_PER_PART]
            )
            for i, at in enumerate(range(0, documents, DOCUMENTS_PER_PART))
        ]
        store.write(MANIFEST, dump(manifest_of(parts)))
    return int(lengths.sum(dtype=np.int64))


def write_part(store: Folder, number: int, lengths: Any, hashes: Any) -> dict[str, Any]:
    name, schema = f"{number:06d}-0000", index_schema()
    columns = [
        pa.array(lengths),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(16), len(hashes), [None, pa.py_buffer(hashes.tobytes())]
        ),
        pa.array(np.arange(len(lengths), dtype=np.int32)),
    ]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return {
        "part": name,
        "source": SOURCES[number % len(SOURCES)],
        "documents": len(lengths),
        "tokens": int(lengths.sum(dtype=np.int64)),
        "file": {"path": part_name(name), "bytes": 0, "xxh3_128": "0" * 32},
        "index": write_batches(store, index_name(name), schema, [batch]),
    }


def manifest_of(parts: list[dict[str, Any]]) -> dict[str, Any]:
    def read(name: str) -> dict[str, Any]:
        mine = [part for part in parts if part["source"] == name]
        counts = {key: sum(part[key] for part in mine) for key in ("documents", "tokens")}
        return {**counts, "text_bytes": 0, "rejected": {}, "dropped": {}}

    return {
        "format": TOKEN_STORE,
        "format_version": 1,
        "versions": {"exactcpt": version("exactcpt"), "pyarrow": version("pyarrow")},
        "settings": {},
        "tokenizer": {
            "sha256": "0" * 64,
            "largest_id": 1,
            "bos_id": None,
            "eos_id": 0,
            "pad_id": 0,
            "eos_token": "<eos>",
            "backend": {"requested": "auto", "used": "gigatoken", "fallback": None},
        },
        "inputs": [],
        "sources": [{"name": name, "read": read(name)} for name in SOURCES],
        "parts": parts,
        "warnings": [],
    }


if __name__ == "__main__":
    main()
