"""What the process that starts a job does alone, as the corpus grows: CPU time, requests, graphs.

    python tests/benchmarks/launcher.py [--parts N] [--files N]

The store is on a simulated server, which counts requests and how many of them are under way
together, and answers after a millisecond. It has the manifest and the summaries of N parts of 8,000
documents, no tokens. From that follows what a job of 125,000 parts (about a trillion tokens) would
take if a request took 30 ms. Graphs are those of an engine, as it would get them. The table, then
JSON in the last line.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import apache_beam as beam
import fsspec
from common import machine
from fsspec.implementations.memory import MemoryFileSystem
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from exactcpt.pipeline.beam.transforms import Crew
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.selection import Epochs
from exactcpt.pipeline.files.json_files import write_json
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.attempt import attempt_at
from exactcpt.pipeline.job.folder import forget_progress
from exactcpt.pipeline.pack.documents import PlanSettings
from exactcpt.pipeline.pack.graph import pack_graph
from exactcpt.pipeline.pack.task import PackTask, store_parts
from exactcpt.pipeline.sources.listing import InputFile
from exactcpt.pipeline.sources.splits import Split, make_splits
from exactcpt.pipeline.tokens.graph import tokenize_graph
from exactcpt.pipeline.tokens.progress import TokensDone
from exactcpt.pipeline.tokens.task import TokenizeTask
from exactcpt.pipeline.tokens.tokenizer import TokenizerSpec
from exactcpt.pipeline.tokens.units import scan_tasks
from exactcpt.schemas.manifest import TOKEN_STORE, Manifest, dump, parse
from exactcpt.schemas.store import index_name, part_name, summary_name

PACKAGES = ("exactcpt", "apache-beam", "fsspec")
LARGE, REQUEST_SECONDS = 125_000, 0.03
DOCUMENTS, TOKENS = 8_000, 8_000_000
MOST_GRAPH_BYTES = 1_000_000


class Server(MemoryFileSystem):
    """A server that counts. Its writes are not watched: workers write, not the launcher."""

    protocol = "simulated"
    requests = together = most_together = 0
    _lock = threading.Lock()

    def _asked(self, answer: Callable[[], Any]) -> Any:
        cls = type(self)
        with cls._lock:
            cls.requests += 1
            cls.together += 1
            cls.most_together = max(cls.most_together, cls.together)
        time.sleep(0.001)
        try:
            return answer()
        finally:
            with cls._lock:
                cls.together -= 1

    def cat_file(self, *args: Any, **options: Any) -> Any:
        return self._asked(lambda: super(Server, self).cat_file(*args, **options))

    def find(self, *args: Any, **options: Any) -> Any:
        found = self._asked(lambda: super(Server, self).find(*args, **options))
        type(self).requests += len(found) // 1000  # pages of a listing
        return found

    def info(self, *args: Any, **options: Any) -> Any:
        return super().info(*args, **options)

    def rm(self, path: Any, *args: Any, **options: Any) -> Any:
        some = [path] if isinstance(path, str) else path
        type(self).requests += -(-len(some) // 1000)  # names in a request that removes
        for each in some:
            with suppress(FileNotFoundError):
                super().rm_file(each)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one thing that the launcher does took.

    Attributes:
        step: what it is.
        cpu_us: microseconds of CPU time per part.
        requests: all of them.
        together: the most that were under way at once.
        large_seconds: computed for 125,000 parts on a server: CPU, and 30 ms a request.
    """

    step: str
    cpu_us: float
    requests: int
    together: int
    large_seconds: float


def measured(step: str, parts: int, do: Callable[[], object]) -> Step:
    Server.requests = Server.most_together = 0
    began = time.process_time()
    do()
    cpu, together = time.process_time() - began, max(Server.most_together, 1)
    scale = LARGE / parts
    waiting = Server.requests * REQUEST_SECONDS / together
    return Step(
        step=step,
        cpu_us=1e6 * cpu / parts,
        requests=Server.requests,
        together=Server.most_together,
        large_seconds=scale * (cpu + waiting),
    )


def summary_of(number: int) -> dict[str, Any]:
    part = f"{number:06d}-0000"
    file = {"bytes": 32 << 20, "xxh3_128": f"{number:032x}"}
    return {
        "part": part,
        "source": "web",
        "members": 1,
        "last": True,
        "documents": DOCUMENTS,
        "tokens": TOKENS,
        "text_bytes": 4 * TOKENS,
        "rejected": {},
        "first_rejected": [],
        "dropped": {},
        "backend": "gigatoken",
        "without_id": 0,
        "file": {"path": part_name(part), **file},
        "index": {"path": index_name(part), **file},
    }


def make_store(store: Folder, parts: int) -> bytes:
    """Writes summaries and empty files that claim their sizes; returns the manifest."""
    summaries = [summary_of(i) for i in range(parts)]
    for one in summaries:
        write_json(store, summary_name(one["part"]), one)
    keys = ("part", "source", "documents", "tokens", "file", "index")
    read = {"documents": DOCUMENTS * parts, "tokens": TOKENS * parts}
    read |= {"text_bytes": 4 * TOKENS * parts, "rejected": {}, "dropped": {}}
    manifest: Manifest = {
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
        "sources": [{"name": "web", "read": read}],
        "parts": [{key: one[key] for key in keys} for one in summaries],
        "warnings": [],
    }
    return dump(manifest)


def splits_of(files: int) -> list[Split]:
    """Three splits of each file."""
    size = 96 << 20
    inputs = [
        InputFile(
            source="web",
            path=f"crawl/2026/{i:06d}.jsonl",
            url=f"s3://corpora/crawl/2026/{i:06d}.jsonl",
            bytes=size,
            stamp=f"{i:032x}",
            format="jsonl",
            compression=None,
        )
        for i in range(files)
    ]
    return make_splits(inputs, size // 3)


def graph_step(step: str, build: Callable[[beam.Pipeline, Crew], None]) -> tuple[str, int, float]:
    """Name, bytes and CPU seconds of a graph."""
    began = time.process_time()
    with attempt_at(Folder("memory://graphs"), engine_retries=True) as attempt:
        pipeline = beam.Pipeline()
        build(pipeline, Crew(attempt))
        size = len(pipeline.to_runner_api().SerializeToString())
    return step, size, time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=40_000)
    options = parser.parse_args()
    fsspec.register_implementation("simulated", Server)
    store, parts = Folder("simulated://store"), options.parts
    data = make_store(store, parts)
    splits = splits_of(options.files)
    progress = TokensDone(store, splits, None)
    manifest = parse(data, "manifest.json", TOKEN_STORE)
    found: list[Any] = []
    steps = [
        measured("read the manifest", parts, lambda: parse(data, "m", TOKEN_STORE)),
        measured(
            "look at the parts of a store",
            parts,
            lambda: found.extend(store_parts(manifest, store, kinds=())),
        ),
        measured("progress, first look", parts, progress),
        measured("progress, each further look", parts, progress),
    ]
    job = Folder("simulated://job")
    for i in range(parts):
        job.write(f".job/train/{i:06d}.json", b"{}")
    steps.append(measured("remove .job", parts, lambda: forget_progress(job)))
    large = tuple(found[i % parts] for i in range(LARGE))
    task = PackTask(
        store="s3://corpora/store",
        out="memory://graphs",
        parts=large,
        settings=PlanSettings(
            window=8192, packing="concat", validation_fraction=Fraction(1, 100), seed=0
        ),
        exact=Exact(tau=4096),
        mixing={"web": Epochs(Fraction(3, 2))},
        token_budget=None,
        dedup=True,
        group_tokens=256_000_000,
        shard_bytes=256 << 20,
        pad_id=0,
    )
    scans = scan_tasks(splits)
    tokens = TokenizeTask(
        store="memory://graphs",
        tokenizer=TokenizerSpec(
            url="s3://corpora/tokenizer.json",
            sha256="",
            largest_id=1,
            backend="gigatoken",
            special_tokens_in_text=False,
            bos_id=None,
            eos_id=0,
            pad_id=0,
        ),
        check=True,
        fields={},
        min_tokens=0,
        split_bytes=32 << 20,
        skip_bad_files=False,
    )
    graphs = [
        graph_step(
            f"tokenize {options.files:,} files, {len(splits):,} splits",
            lambda p, crew: tokenize_graph(p, tokens, scans, splits, crew),
        ),
        graph_step(f"pack {LARGE:,} parts", lambda p, crew: pack_graph(p, task, crew)),
    ]
    described = machine(PACKAGES)
    show(steps, graphs)
    kept = [{"graph": name, "bytes": size, "cpu_seconds": cpu} for name, size, cpu in graphs]
    sys.stdout.write(
        json.dumps({"machine": described, "steps": [*map(asdict, steps)], "graphs": kept}) + "\n"
    )


def show(steps: list[Step], graphs: list[tuple[str, int, float]]) -> None:
    console = Console()
    table = Table(box=SIMPLE_HEAD)
    for title in ("step", "us a part", "requests", "at once", f"{LARGE:,} parts, 30 ms"):
        table.add_column(title, justify="left" if title == "step" else "right")
    for one in steps:
        large = f"{one.large_seconds:,.0f} s"
        table.add_row(one.step, f"{one.cpu_us:,.0f}", f"{one.requests:,}", f"{one.together}", large)
    console.print(table)
    table = Table(box=SIMPLE_HEAD)
    for title in ("graph", "bytes", "allowed", "CPU s"):
        table.add_column(title, justify="left" if title == "graph" else "right")
    for name, size, cpu in graphs:
        table.add_row(name, f"{size:,}", f"{MOST_GRAPH_BYTES:,}", f"{cpu:.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
