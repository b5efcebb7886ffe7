"""What the process that starts a job does alone, as the corpus grows: CPU time, requests, graphs.

    python tests/benchmarks/launcher.py [--parts N] [--files N]

The store is on a simulated server, which counts requests and how many of them are under way
together, and answers after a millisecond. It has the manifest and the summaries of N parts of 8,000
documents, no tokens. From that follows what a job of 125,000 parts (a billion documents, about a
trillion tokens) would take if a request took 30 ms. Graphs are those of an engine, as it would get
them. What the graph of packing does in a single place is done for all 125,000 parts; one group is
planned, with lengths that are drawn.

Each figure has a bound, which the tables show. The tables, then JSON in the last line; exit code 1
if a figure is beyond its bound.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import apache_beam as beam
import fsspec
import numpy as np
from common import DATA, machine
from fsspec.implementations.memory import MemoryFileSystem
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from exactcpt.pipeline.beam.transforms import Crew, SumHistograms
from exactcpt.pipeline.config import SourceConfig, TokenizeConfig
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.selection import Epochs, Quota
from exactcpt.pipeline.files.storage import Folder, resolve
from exactcpt.pipeline.job.attempt import attempt_at
from exactcpt.pipeline.job.folder import forget_progress
from exactcpt.pipeline.pack.documents import Documents, PartRef, PlanSettings
from exactcpt.pipeline.pack.graph import pack_graph
from exactcpt.pipeline.pack.plan import Group, make_groups, plan_group
from exactcpt.pipeline.pack.task import PackTask, store_parts
from exactcpt.pipeline.pack.units import number_shards, train_histogram
from exactcpt.pipeline.sources.listing import InputFile
from exactcpt.pipeline.sources.records import Fields
from exactcpt.pipeline.sources.scanning import FileFacts
from exactcpt.pipeline.sources.splits import Split, make_splits
from exactcpt.pipeline.tokens.fidelity import Fidelity
from exactcpt.pipeline.tokens.graph import tokenize_graph
from exactcpt.pipeline.tokens.manifest import write_manifest
from exactcpt.pipeline.tokens.plan import TokenizePlan
from exactcpt.pipeline.tokens.progress import TokensDone
from exactcpt.pipeline.tokens.task import TokenizeTask
from exactcpt.pipeline.tokens.tokenizer import load_tokenizer
from exactcpt.pipeline.tokens.units import ScanTask, scan_tasks
from exactcpt.schemas.manifest import TOKEN_STORE, Manifest, dump, parse
from exactcpt.schemas.store import index_name, part_name, summary_name

PACKAGES = ("exactcpt", "apache-beam", "fsspec")
LARGE, REQUEST_SECONDS = 125_000, 0.03
DOCUMENTS, TOKENS = 8_000, 8_000_000
GROUP_TOKENS, WINDOW = 256_000_000, 8192
MOST_GRAPH_BYTES = 1_000_000


class Server(MemoryFileSystem):
    """A server that counts what is read and removed."""

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
        bound: the most that `large_seconds` may be.
    """

    step: str
    cpu_us: float
    requests: int
    together: int
    large_seconds: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Alone:
    """What a worker does of the graph of packing, for all 125,000 parts.

    Attributes:
        step: what it is.
        of: how many things it is done for.
        cpu_seconds: CPU time.
        bound: the most that it may be.
    """

    step: str
    of: int
    cpu_seconds: float
    bound: float


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A graph as an engine gets it; `bytes` of its proto, CPU time to make it."""

    graph: str
    bytes: int
    cpu_seconds: float
    bound: int = MOST_GRAPH_BYTES


def measured(step: str, parts: int, bound: float, do: Callable[[], object]) -> Step:
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
        bound=bound,
    )


def alone(step: str, of: int, bound: float, do: Callable[[], object]) -> Alone:
    began = time.process_time()
    do()
    return Alone(step=step, of=of, cpu_seconds=time.process_time() - began, bound=bound)


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
        "encoding": Fidelity().to_json(),
        "backend": "gigatoken",
        "without_id": 0,
        "file": {"path": part_name(part), **file},
        "index": {"path": index_name(part), **file},
    }


def make_store(store: Folder, plan: TokenizePlan, parts: int) -> Manifest:
    """Writes the summaries of a store's parts, which claim sizes of files that are not there.

    Returns:
        The manifest that follows from them.
    """
    summaries = [summary_of(i) for i in range(parts)]
    for one in summaries:
        put(store, summary_name(one["part"]), one)
    keys = ("part", "source", "documents", "tokens", "file", "index")
    read = {"documents": DOCUMENTS * parts, "tokens": TOKENS * parts}
    read |= {"text_bytes": 4 * TOKENS * parts, "rejected": {}, "dropped": {}}
    return {
        "format": TOKEN_STORE,
        "format_version": 1,
        "versions": {"exactcpt": version("exactcpt"), "pyarrow": version("pyarrow")},
        "settings": {},
        "tokenizer": plan.tokenizer_manifest("gigatoken", None),
        "inputs": [],
        "sources": [{"name": "web", "read": read}],
        "parts": [{key: one[key] for key in keys} for one in summaries],
        "warnings": [],
    }


def tokenize_plan(files: int) -> TokenizePlan:
    """A plan for files of which each has three splits."""
    pattern = "s3://corpora/crawl/*/*.jsonl"
    source, tokenizer = SourceConfig(name="web", pattern=pattern), str(DATA / "tokenizer.json")
    inputs = [
        InputFile(
            source="web",
            path=f"crawl/2026/{i:06d}.jsonl",
            url=f"s3://corpora/crawl/2026/{i:06d}.jsonl",
            bytes=96 << 20,
            stamp=f"{i:032x}",
            format="jsonl",
            compression=None,
        )
        for i in range(files)
    ]
    return TokenizePlan(
        config=TokenizeConfig(sources=(source,), tokenizer=tokenizer),
        tokenizer=load_tokenizer(tokenizer),
        bos_id=None,
        eos_id=0,
        eos_token="<eos>",
        pad_id=0,
        largest_id=1,
        unk_id=None,
        files={"web": inputs},
        fields={"web": Fields()},
        warnings=(),
    )


def put(folder: Folder, name: str, value: Any) -> None:
    """Writes what a worker would have written, as a server gets it: in one step."""
    fs, path = resolve(folder.url_of(name))
    fs.pipe_file(path, json.dumps(value).encode())


def note_checksums(store: Folder, scans: Sequence[ScanTask]) -> None:
    """Writes what tokenizing notes of its inputs."""
    for task in scans:
        facts = {file.url: asdict(FileFacts(file.stamp, {})) for file, _ in task.files}
        put(store, f".job/files/{task.ordinal:06d}.json", facts)


def launcher_steps(parts: int, plan: TokenizePlan) -> tuple[list[Step], tuple[PartRef, ...]]:
    """What the process that starts a job does; and the parts of the store."""
    store, splits = Folder("simulated://store"), splits_of(plan)
    manifest = make_store(store, plan, parts)
    data = dump(manifest)
    found: list[PartRef] = []
    progress = TokensDone(store, splits, None)
    note_checksums(store, scan_tasks(splits)[: parts // 3])  # three parts a file, as splits
    job = Folder("simulated://job")
    for i in range(parts):
        put(job, f".job/train/{i:06d}.json", {})
    steps = [
        measured("read the manifest", parts, 15, lambda: parse(data, "m", TOKEN_STORE)),
        measured(
            "look at the parts of a store",
            parts,
            180,
            lambda: found.extend(store_parts(manifest, store, kinds=())),
        ),
        measured("progress, first look", parts, 180, progress),
        measured("progress, each further look", parts, 30, progress),
        measured(
            "the end of tokenizing",
            parts,
            300,
            lambda: write_manifest(plan, store, "gigatoken", None),
        ),
        measured("remove .job", parts, 30, lambda: forget_progress(job)),
    ]
    return steps, tuple(found)


def splits_of(plan: TokenizePlan) -> list[Split]:
    """Three splits of each file."""
    return make_splits([*plan.files["web"]], plan.config.split_bytes)


def all_parts(some: Sequence[PartRef]) -> tuple[PartRef, ...]:
    """125,000 parts, after the model of some."""
    return tuple(
        replace(some[i % len(some)], part=f"{i:06d}-0000", first_document=i * DOCUMENTS)
        for i in range(LARGE)
    )


def pack_task(parts: tuple[PartRef, ...]) -> PackTask:
    return PackTask(
        store="s3://corpora/store",
        out="memory://graphs",
        parts=parts,
        settings=PlanSettings(
            window=WINDOW, packing="concat", validation_fraction=Fraction(1, 100), seed=0
        ),
        exact=Exact(tau=WINDOW // 2),
        mixing={"web": Epochs(Fraction(3, 2))},
        token_budget=None,
        dedup=True,
        group_tokens=GROUP_TOKENS,
        shard_bytes=256 << 20,
        pad_id=0,
    )


def packing_steps(task: PackTask) -> list[Alone]:
    """What single workers do: group, plan one group, sum histograms, number shards."""
    groups: list[Group] = []
    summaries: list[dict[str, Any]] = []
    histograms: list[Any] = []
    quotas = {"web": Quota(Fraction(3, 2))}

    def form() -> None:
        groups.extend(make_groups(task.parts, quotas, task.group_tokens, task.settings.seed))

    def plan() -> None:
        planned = plan_group(groups[0], drawn_documents, task.settings)
        shares = {
            split: {"windows": one.packing.windows, "sources": one.by_source}
            for split, one in planned.splits.items()
        }
        for group in groups:
            mine = [member.part.part for member in group.members if member.copy == 0]
            summaries.append({"group": group.ordinal, "parts": mine, "splits": shares})

    def add() -> None:
        total = SumHistograms(WINDOW)
        histograms.extend(train_histogram(one, WINDOW) for one in summaries)
        total.extract_output(total.merge_accumulators(histograms))

    return [
        alone("form groups", len(task.parts), 10, form),
        alone("plan one group (documents)", GROUP_TOKENS // 1000, 2, plan),
        alone("sum the histograms of groups", len(groups), 2, add),
        alone("number shards", len(groups), 10, lambda: number_shards(summaries, task, None)),
    ]


def drawn_documents(part: PartRef) -> Documents:
    """Documents of a part: log-normal lengths, as those of texts, with the mean of the store."""
    draw = np.random.default_rng(part.first_document)
    lengths = draw.lognormal(np.log(TOKENS / DOCUMENTS) - 0.5, 1, part.documents)
    return Documents(
        index=part.first_document + np.arange(part.documents),
        lengths=np.maximum(lengths, 1).astype(np.int32),
        validates=draw.random(part.documents) < 0.01,
        copies=draw.integers(1, 3, part.documents).astype(np.int32),
        repeated=np.zeros(part.documents, bool),
    )


def graph_of(name: str, build: Callable[[beam.Pipeline, Crew], None]) -> Graph:
    began = time.process_time()
    with attempt_at(Folder("memory://graphs"), engine="AnEngine") as attempt:
        pipeline = beam.Pipeline()
        build(pipeline, Crew(attempt))
        size = len(pipeline.to_runner_api().SerializeToString())
    return Graph(graph=name, bytes=size, cpu_seconds=time.process_time() - began)


def graphs_of(plan: TokenizePlan, task: PackTask) -> list[Graph]:
    splits = splits_of(plan)
    scans = scan_tasks(splits)
    tokens = TokenizeTask(
        store="memory://graphs",
        tokenizer=plan.spec("s3://corpora/tokenizer.json", "gigatoken"),
        check=True,
        fields={},
        min_tokens=0,
        split_bytes=plan.config.split_bytes,
        skip_bad_files=False,
    )
    files = len(plan.files["web"])
    return [
        graph_of(
            f"tokenize {files:,} files, {len(splits):,} splits",
            lambda p, crew: tokenize_graph(p, tokens, scans, splits, crew),
        ),
        graph_of(f"pack {LARGE:,} parts", lambda p, crew: pack_graph(p, task, crew)),
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", type=int, default=20_000)
    parser.add_argument("--files", type=int, default=40_000)
    options = parser.parse_args()
    fsspec.register_implementation("simulated", Server)
    plan = tokenize_plan(options.files)
    steps, some = launcher_steps(options.parts, plan)
    task = pack_task(all_parts(some))
    packing, graphs = packing_steps(task), graphs_of(plan, task)
    described = machine(PACKAGES)
    show(steps, packing, graphs)
    kept = {"steps": steps, "packing": packing, "graphs": graphs}
    figures = {name: [*map(asdict, each)] for name, each in kept.items()}
    sys.stdout.write(json.dumps({"machine": described, **figures}) + "\n")
    beyond = [one.step for one in steps if one.large_seconds > one.bound]
    beyond += [one.step for one in packing if one.cpu_seconds > one.bound]
    beyond += [one.graph for one in graphs if one.bytes > one.bound]
    for name in beyond:
        sys.stderr.write(f"beyond its bound: {name}\n")
    return 1 if beyond else 0


def show(steps: Sequence[Step], packing: Sequence[Alone], graphs: Sequence[Graph]) -> None:
    console = Console(width=100)
    titles = ("step", "us a part", "requests", "at once", f"{LARGE:,} parts, 30 ms", "bound")
    table = table_of(*titles)
    for one in steps:
        large, bound = f"{one.large_seconds:,.0f} s", f"{one.bound:,.0f} s"
        cpu, requests = f"{one.cpu_us:,.0f}", f"{one.requests:,}"
        table.add_row(one.step, cpu, requests, f"{one.together}", large, bound)
    console.print(table)
    table = table_of("step of packing", "of", "CPU s", "bound")
    for one in packing:
        table.add_row(one.step, f"{one.of:,}", f"{one.cpu_seconds:.1f}", f"{one.bound:.0f}")
    console.print(table)
    table = table_of("graph", "bytes", "bound", "CPU s")
    for one in graphs:
        table.add_row(one.graph, f"{one.bytes:,}", f"{one.bound:,}", f"{one.cpu_seconds:.1f}")
    console.print(table)


def table_of(first: str, *titles: str) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(first)
    for title in titles:
        table.add_column(title, justify="right")
    return table


if __name__ == "__main__":
    sys.exit(main())
