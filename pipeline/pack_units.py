"""The units of work of packing: plans, the weight table, shards, and the documents table.

Each reads files, calls `plan` or `shards`, and writes files; what is there already is not written
again. So a unit may run twice, and a job that was killed goes on.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..schemas import store as names
from ..schemas.shard import SPLITS, TRAIN, shard_name
from .buckets import bucket_count
from .exact import WeightTable, weight_table
from .ipc import map_table, write_batches
from .job import JOB
from .plan import Documents, Group, PartRef, part_documents, plan_group, plan_table
from .runs import runs
from .selection import Quota
from .selection_units import PackTask, repeated_documents
from .shards import ShardTask, documents_table, windows_per_shard, write_documents, write_shard
from .storage import Folder
from .store import read_ids, read_index

__all__ = [
    "DocumentsTask",
    "documents_tasks",
    "fill_documents",
    "fill_shard",
    "number_shards",
    "plan",
    "train_histogram",
    "weigh",
]

DOCUMENTS_PER_FILE = 1 << 20


def plan(
    group: Group, task: PackTask, repeated_files: Iterable[str], quotas: Mapping[str, Quota]
) -> dict[str, Any]:
    """Plans a group and writes its plan tables; returns its summary."""
    out = Folder(task.out)
    summary_name = f"{JOB}/plans/{group.ordinal:05d}.json"
    if out.exists(summary_name):
        return json.loads(out.read(summary_name))
    repeated = repeated_documents(task, repeated_files)
    chosen = {part.part: _documents(part, task, repeated, quotas) for part in group.parts}
    plans = plan_group(group, chosen, task.settings)
    for split, one in plans.items():
        table = plan_table(one)
        write_batches(out, plan_name(group.ordinal, split), table.schema, table.to_batches())
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
            map_table(path),
            out=out,
            store=Folder(task.store),
            parts=groups[shard.group].parts,
            weights=weights,
            window=task.settings.window,
            pad_id=task.pad_id,
        )
    out.write(summary_name, json.dumps(written).encode())


@dataclass(frozen=True)
class DocumentsTask:
    """One file of the documents table."""

    name: str
    parts: tuple[PartRef, ...]

    @property
    def rows(self) -> int:
        """Documents of its parts."""
        return sum(part.documents for part in self.parts)


def documents_tasks(parts: Sequence[PartRef]) -> list[DocumentsTask]:
    """Runs of consecutive parts with about a million documents each."""
    files = runs(parts, lambda part: part.documents, DOCUMENTS_PER_FILE)
    return [
        DocumentsTask(f"documents/part-{i:05d}.parquet", tuple(run)) for i, run in enumerate(files)
    ]


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
    repeated = repeated_documents(task, repeated_files)

    def tables() -> Iterator[Any]:
        for part in documents.parts:
            wanted = [names.index_name(part.part), names.part_name(part.part)]
            with store.local_copies(wanted) as local:
                index, ids = read_index(local[wanted[0]]), read_ids(local[wanted[1]])
                chosen = part_documents(part, index, quotas[part.source], repeated, task.settings)
                yield documents_table(part, ids, index.hashes, chosen)

    written = write_documents(out, documents.name, tables())
    out.write(summary_name, json.dumps(written).encode())
