"""The units of work: what the Beam graphs map over their elements.

Each reads files, calls the core, and writes files under `.job` or their final name; what is there
already is not written again. So a unit may run twice, and a job that was killed goes on.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..schemas import store as names
from ..schemas.shard import SPLITS, TRAIN, shard_name
from .buckets import bucket_count
from .exact import Exact, WeightTable, weight_table
from .plan import (
    Documents,
    Group,
    PartRef,
    PlanSettings,
    part_documents,
    plan_group,
    plan_table,
)
from .selection import (
    RANK_BINS,
    Epochs,
    Mixing,
    Quota,
    boundary_bin,
    extra_tokens,
    is_repeated,
    is_validation,
    quota,
    rank,
    tokens_by_rank,
    wanted_copies,
)
from .shards import ShardTask, documents_table, windows_per_shard, write_documents, write_shard
from .sources import BadFileError, InputFile, Split, scan
from .storage import Folder
from .store import TokenizeTask, hash_prefixes, read_ids, read_index, tokenize_split

__all__ = ["DocumentsTask", "HashRange", "PackTask", "ScanTask"]

JOB = ".job"
SCAN_BYTES = 64 << 20
DOCUMENTS_PER_FILE = 1 << 20
DOCUMENTS_PER_HASH_RANGE = 1 << 24


@dataclass(frozen=True)
class ScanTask:
    """Files to read once, each with the byte offsets at which its ranges begin."""

    ordinal: int
    files: tuple[tuple[InputFile, tuple[int, ...]], ...]

    @property
    def work(self) -> int:
        """Bytes to read."""
        return sum(file.bytes or 0 for file, _ in self.files)


def scan_tasks(splits: Sequence[Split]) -> list[ScanTask]:
    """The files of splits, large ones alone."""
    offsets: dict[InputFile, list[int]] = {}
    for split in splits:
        for member in split.members:
            ranged = member.file.format == "jsonl" and member.start
            offsets.setdefault(member.file, []).extend([member.start] if ranged else [])
    runs: list[list[tuple[InputFile, tuple[int, ...]]]] = []
    filled = 0
    for file, starts in offsets.items():
        if file.bytes is None:
            continue
        if runs and filled + file.bytes <= SCAN_BYTES:
            runs[-1].append((file, tuple(starts)))
            filled += file.bytes
        else:
            runs.append([(file, tuple(starts))])
            filled = file.bytes
    return [ScanTask(i, tuple(run)) for i, run in enumerate(runs)]


def scan_files(scans: ScanTask, task: TokenizeTask) -> list[tuple[str, dict[int, int]]]:
    """Reads files once; writes their digests and returns the newlines before their ranges."""
    store = Folder(task.store)
    name = f"{JOB}/files/{scans.ordinal:06d}.json"
    if store.exists(name):
        known = json.loads(store.read(name))
        return [
            (url, {int(at): n for at, n in each["newlines"].items()}) for url, each in known.items()
        ]
    facts = {file.url: scan(file, starts) for file, starts in scans.files}
    store.write(name, json.dumps({url: asdict(each) for url, each in facts.items()}).encode())
    return [(url, each.newlines) for url, each in facts.items()]


def tokenize(split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]) -> None:
    """Tokenizes a split; a bad file is noted where such files are to be left out."""
    try:
        tokenize_split(split, task, newlines)
    except BadFileError as error:
        if not task.skip_bad_files:
            raise
        bad = {"url": error.where, "reason": error.found}
        Folder(task.store).write(f"{JOB}/bad/{split.ordinal:06d}.json", json.dumps(bad).encode())


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """What all units of a packing job have in common.

    Attributes:
        store, out: paths or URLs of the token store and the shard set.
        parts: of the store, in its order.
        settings: of the plan.
        exact: of the weights.
        mixing: what each source asks for.
        token_budget: tokens to train on, or None.
        dedup: whether repeated documents are dropped.
        shard_bytes: size of a shard.
        pad_id: the id of padding.
    """

    store: str
    out: str
    parts: tuple[PartRef, ...]
    settings: PlanSettings
    exact: Exact
    mixing: Mapping[str, Mixing]
    token_budget: int | None
    dedup: bool
    shard_bytes: int
    pad_id: int

    @property
    def sources(self) -> list[str]:
        """Names of the sources that have documents, in the order of the store."""
        return list(dict.fromkeys(part.source for part in self.parts))

    @property
    def mixes(self) -> bool:
        """Whether any source is to be seen other than once."""
        return self.token_budget is not None or any(
            mixing != Epochs(Fraction(1)) for mixing in self.mixing.values()
        )


@dataclass(frozen=True)
class HashRange:
    """Content hashes whose first 8 bytes are in start..stop - 1."""

    ordinal: int
    start: int
    stop: int


@dataclass(frozen=True)
class DocumentsTask:
    """One file of the documents table."""

    name: str
    parts: tuple[PartRef, ...]

    @property
    def rows(self) -> int:
        """Documents of its parts."""
        return sum(part.documents for part in self.parts)


def hash_ranges(documents: int) -> list[HashRange]:
    """Equal ranges of hashes, with some sixteen million documents each."""
    n = -(-documents // DOCUMENTS_PER_HASH_RANGE)
    edges = [(i << 64) // n for i in range(n + 1)]
    return [HashRange(i, a, b) for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))]


def documents_tasks(parts: Sequence[PartRef]) -> list[DocumentsTask]:
    """Runs of consecutive parts with about a million documents each."""
    runs: list[list[PartRef]] = []
    filled = 0
    for part in parts:
        if runs and filled + part.documents <= DOCUMENTS_PER_FILE:
            runs[-1].append(part)
            filled += part.documents
        else:
            runs.append([part])
            filled = part.documents
    return [
        DocumentsTask(f"documents/part-{i:05d}.parquet", tuple(run)) for i, run in enumerate(runs)
    ]


def find_repeated(hash_range: HashRange, task: PackTask) -> str:
    """Writes the indices of repeated documents whose hash is in the range; returns the file's name."""
    out = Folder(task.out)
    name = f"{JOB}/repeated/{hash_range.ordinal:05d}.arrow"
    if out.exists(name):
        return name
    hashes: list[NDArray[np.void]] = []
    indices: list[NDArray[np.int64]] = []
    with Folder(task.store).local_copies([names.index_name(p.part) for p in task.parts]) as local:
        for part in task.parts:
            found = read_index(local[names.index_name(part.part)]).hashes
            prefixes = hash_prefixes(found)
            mine = (prefixes >= np.uint64(hash_range.start)) & (
                prefixes <= np.uint64(hash_range.stop - 1)
            )
            hashes.append(found[mine])
            indices.append(part.first_document + np.flatnonzero(mine))
    index = np.concatenate(indices)
    repeated = np.sort(index[is_repeated(np.concatenate(hashes), index)])
    _write_table(out, name, pa.table({"doc_index": repeated}))
    return name


def _repeated(task: PackTask, files: Iterable[str]) -> NDArray[np.int64]:
    found = [_read_table(Folder(task.out), name)["doc_index"].to_numpy() for name in files]
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


@dataclass(frozen=True)
class Measure:
    """Training tokens of some of a source's documents, in all and by rank."""

    tokens: int
    by_rank: NDArray[np.int64]

    @classmethod
    def total(cls, measures: Any) -> "Measure":
        """The sum of some measures."""
        tokens, by_rank = 0, np.zeros(RANK_BINS, np.int64)
        for measure in measures:
            tokens, by_rank = tokens + measure.tokens, by_rank + measure.by_rank
        return cls(tokens, by_rank)


@dataclass(frozen=True)
class Target:
    """How often a source is to be seen, and the bin of rank in which its token target is met."""

    copies: Fraction
    boundary: tuple[int, int] | None


def _train_documents(
    part: PartRef, task: PackTask, repeated: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Rank, index and length of a part's training documents that are not repeated."""
    with Folder(task.store).local_copies([names.index_name(part.part)]) as local:
        index = read_index(local[names.index_name(part.part)])
    prefixes = hash_prefixes(index.hashes)
    numbers = part.first_document + np.arange(part.documents)
    settings = task.settings
    train = ~is_validation(prefixes, settings.validation_fraction, settings.seed)
    train &= ~np.isin(numbers, repeated)
    return rank(prefixes[train], settings.seed), numbers[train], index.lengths[train]


def measure(part: PartRef, task: PackTask, repeated_files: Iterable[str]) -> tuple[str, Measure]:
    """The training tokens of a part, by its source."""
    ranks, _, lengths = _train_documents(part, task, _repeated(task, repeated_files))
    by_rank = tokens_by_rank(ranks, lengths)
    return part.source, Measure(int(by_rank.sum()), by_rank)


def targets(_: None, task: PackTask, measures: Mapping[str, Measure]) -> dict[str, Target]:
    """What each source is to contribute."""
    tokens = {name: measures[name].tokens for name in task.sources}
    wanted = wanted_copies(tokens, task.mixing, task.token_budget)
    return {
        name: Target(
            wanted[name],
            boundary_bin(measures[name].by_rank, extra_tokens(wanted[name], tokens[name])),
        )
        for name in task.sources
    }


def candidates(
    part: PartRef, task: PackTask, repeated_files: Iterable[str], wanted: Mapping[str, Target]
) -> list[tuple[str, Any]]:
    """The part's documents in the bin in which its source's token target is met."""
    boundary = wanted[part.source].boundary
    if boundary is None:
        return []
    ranks, numbers, lengths = _train_documents(part, task, _repeated(task, repeated_files))
    mine = (ranks >> np.uint64(48)) == np.uint64(boundary[0])
    return [(part.source, (ranks[mine], numbers[mine], lengths[mine]))]


def quotas(
    _: None, task: PackTask, wanted: Mapping[str, Target], found: Mapping[str, Any]
) -> dict[str, Quota]:
    """The quota of each source, from the candidates of all its parts."""
    result: dict[str, Quota] = {}
    for name in task.sources:
        target = wanted[name]
        if target.boundary is None:
            result[name] = Quota(target.copies)
        else:
            ranks, numbers, lengths = (np.concatenate(c) for c in zip(*found[name], strict=True))
            result[name] = quota(target.copies, target.boundary[1], ranks, numbers, lengths)
    return result


def plain_quotas(task: PackTask) -> dict[str, Quota]:
    """Every source once: what there is to say where nothing is mixed."""
    return {name: Quota(Fraction(1)) for name in task.sources}


def plan(
    group: Group, task: PackTask, repeated_files: Iterable[str], quotas: Mapping[str, Quota]
) -> dict[str, Any]:
    """Plans a group and writes its plan tables; returns its summary."""
    out = Folder(task.out)
    summary_name = f"{JOB}/plans/{group.ordinal:05d}.json"
    if out.exists(summary_name):
        return json.loads(out.read(summary_name))
    repeated = _repeated(task, repeated_files)
    chosen = {part.part: _documents(part, task, repeated, quotas) for part in group.parts}
    plans = plan_group(group, chosen, task.settings)
    for split, one in plans.items():
        _write_table(out, plan_name(group.ordinal, split), plan_table(one))
    summary = {
        "group": group.ordinal,
        "copies": {name: float(each.copies) for name, each in quotas.items()},
        "dropped": _dropped(group, chosen),
        "splits": {
            split: {
                "windows": one.packing.windows,
                "tokens": int(one.packing.length.sum(dtype=np.int64)),
                "padding": one.packing.padding,
                "segments": len(one.packing.length),
                "cut_documents": one.cut_documents,
                "sources": one.by_source,
            }
            for split, one in plans.items()
        },
    }
    out.write(summary_name, json.dumps(summary).encode())
    return summary


def _dropped(group: Group, chosen: Mapping[str, Documents]) -> dict[str, dict[str, int]]:
    """Documents without a copy, by source and reason."""
    counts: dict[str, dict[str, int]] = {}
    for part in group.parts:
        documents = chosen[part.part]
        mine = counts.setdefault(part.source, {"duplicate": 0, "mixing": 0})
        mine["duplicate"] += int(documents.repeated.sum())
        mine["mixing"] += int(((documents.copies == 0) & ~documents.repeated).sum())
    return counts


def plan_name(group: int, split: str) -> str:
    """Where the plan of a group's split is."""
    return f"{JOB}/plans/{group:05d}.{split}.arrow"


def _documents(
    part: PartRef, task: PackTask, repeated: NDArray[np.int64], quotas: Mapping[str, Quota]
) -> Documents:
    with Folder(task.store).local_copies([names.index_name(part.part)]) as local:
        index = read_index(local[names.index_name(part.part)])
    return part_documents(part, index, quotas[part.source], repeated, task.settings)


def train_histogram(summary: Mapping[str, Any], window: int) -> NDArray[np.int64]:
    """A group's histogram of supervised training targets."""
    sources = summary["splits"][TRAIN]["sources"].values()
    return (
        np.array([s["histogram"] for s in sources], np.int64)
        .reshape(-1, bucket_count(window))
        .sum(0)
    )


def weigh(histogram: NDArray[np.int64], task: PackTask) -> WeightTable:
    """The weight table of the corpus; written, because the manifest wants it."""
    table = weight_table(histogram.tolist(), task.settings.window, task.exact)
    rows = [asdict(row) for row in table.rows]
    Folder(task.out).write(
        f"{JOB}/weights.json", json.dumps({"budget": table.budget, "table": rows}).encode()
    )
    return table


def number_shards(
    summaries: Sequence[Mapping[str, Any]], task: PackTask, lanes: int | None
) -> list[tuple[int, ShardTask]]:
    """Every shard of the set with its lane: the groups' windows in runs, numbered in order."""
    size = windows_per_shard(task.shard_bytes, task.settings.window)
    shards: list[ShardTask] = []
    for split in SPLITS:
        runs = [
            (summary["group"], start, min(start + size, summary["splits"][split]["windows"]))
            for summary in sorted(summaries, key=lambda summary: summary["group"])
            for start in range(0, summary["splits"][split]["windows"], size)
        ]
        shards += [
            ShardTask(name=shard_name(split, i, len(runs)), split=split, group=g, start=a, stop=b)
            for i, (g, a, b) in enumerate(runs)
        ]
    return [(i if lanes is None else i % lanes, shard) for i, shard in enumerate(shards)]


def fill_shard(
    shard: ShardTask, task: PackTask, groups: Sequence[Group], table: WeightTable
) -> None:
    """Writes a shard and then its summary."""
    out = Folder(task.out)
    summary_name = f"{JOB}/{shard.name}.json"
    if out.exists(summary_name):
        return
    weights = table.weights if shard.split == TRAIN else [1.0] * len(table.rows)
    with out.local_copies([plan_name(shard.group, shard.split)]) as local:
        (path,) = local.values()
        written = write_shard(
            shard,
            _map_table(path),
            out=out,
            store=Folder(task.store),
            parts=groups[shard.group].parts,
            weights=weights,
            window=task.settings.window,
            pad_id=task.pad_id,
        )
    out.write(summary_name, json.dumps(written).encode())


def fill_documents(
    documents: DocumentsTask,
    task: PackTask,
    repeated_files: Iterable[str],
    quotas: Mapping[str, Quota],
) -> None:
    """Writes a file of the documents table and then its summary."""
    out, store = Folder(task.out), Folder(task.store)
    summary_name = f"{JOB}/{documents.name}.json"
    if out.exists(summary_name):
        return
    repeated = _repeated(task, repeated_files)

    def tables() -> Any:
        for part in documents.parts:
            wanted = [names.index_name(part.part), names.part_name(part.part)]
            with store.local_copies(wanted) as local:
                index, ids = read_index(local[wanted[0]]), read_ids(local[wanted[1]])
                chosen = part_documents(part, index, quotas[part.source], repeated, task.settings)
                yield documents_table(part, ids, index.hashes, chosen)

    written = write_documents(out, documents.name, tables())
    out.write(summary_name, json.dumps(written).encode())


def _write_table(folder: Folder, name: str, table: Any) -> None:
    with folder.create(name) as scratch:
        with pa.OSFile(str(scratch), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)


def _read_table(folder: Folder, name: str) -> Any:
    with folder.local_copies([name]) as local:
        return _map_table(local[name])


def _map_table(path: Any) -> Any:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()
