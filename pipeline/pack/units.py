"""The work units of packing: plans, the weight table, shards, and the documents table.

Each reads files, calls `plan` or `shards`, and writes files; an existing file is not written
again. So a unit may run twice, and a job that was killed can continue where it stopped.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.runs import runs
from ...schemas.shard import SPLITS, TRAIN, shard_name
from ..beam.metrics import note_done
from ..core.buckets import bucket_count
from ..core.exact import WeightTable, weight_table
from ..core.parameters import Exact
from ..core.selection import Quota
from ..files.arrow import map_table, write_batches
from ..files.json_files import read_json, write_json
from ..files.storage import Folder
from ..job.folder import JOB
from ..tokens.store import read_ids
from .documents import PartRef
from .documents_table import documents_table, write_documents
from .plan import Group, GroupPlan, make_groups, plan_group, plan_table
from .selection_units import selected
from .shards import Gather, ShardTask, windows_per_shard, write_shard
from .store_files import check_parts, part_index, with_checks
from .task import PackTask

__all__ = [
    "DocumentsTask",
    "documents_tasks",
    "fill_documents",
    "fill_files",
    "fill_shards",
    "group",
    "list_files",
    "number_shards",
    "plan",
    "train_histogram",
    "work_of",
    "write_weights",
]

DOCUMENTS_PER_FILE = 1 << 20
TOKENS_PER_ROW = 50
"""How many tokens of a shard are written in the time of a row of the documents table, roughly."""
GROUPS = f"{JOB}/groups.json"


def group(task: PackTask, quotas: Mapping[str, Quota]) -> list[Group]:
    """All groups; their number and the copies asked for are written for the manifest."""
    groups = make_groups(task.parts, quotas, task.group_tokens, task.settings.seed)
    copies = {name: float(quota.copies) for name, quota in quotas.items()}
    Folder(task.out).write(GROUPS, json.dumps({"groups": len(groups), "copies": copies}).encode())
    return groups


def plan(
    group: Group, task: PackTask, repeated: Mapping[str, str], quotas: Mapping[str, Quota]
) -> dict[str, Any]:
    """Plans a group and writes its plan tables; returns its summary.

    Args:
        group: the group.
        task: the job.
        repeated: for each part, the file that lists its repeated documents.
        quotas: the quota of each source.
    """
    out = Folder(task.out)
    summary_name = f"{JOB}/plans/{group.ordinal:05d}.json"
    if out.exists(summary_name):
        return read_json(out, summary_name)
    planned = plan_group(
        group, lambda part: selected(part, task, repeated, quotas[part.source]), task.settings
    )
    for split, one in planned.splits.items():
        table = plan_table(one)
        write_batches(out, plan_name(group.ordinal, split), table.schema, table.to_batches())
    summary = _summary(group, planned)
    write_json(out, summary_name, summary)
    return summary


def _summary(group: Group, planned: GroupPlan) -> dict[str, Any]:
    """What the manifest and the numbering of shards need of a group's plan."""
    return {
        "group": group.ordinal,
        "parts": [member.part.part for member in group.members if member.copy == 0],
        "dropped": planned.dropped,
        "splits": {
            split: {
                "windows": one.packing.windows,
                "tokens": int(one.packing.length.sum(dtype=np.int64)),
                "padding": one.packing.padding,
                "segments": len(one.packing.length),
                "cut_documents": one.cut_documents,
                "sources": one.by_source,
                **({} if one.answers is None else asdict(one.answers)),
            }
            for split, one in planned.splits.items()
        },
    }


def plan_name(group: int, split: str) -> str:
    """The file with the plan of a group's split."""
    return f"{JOB}/plans/{group:05d}.{split}.arrow"


def train_histogram(summary: Mapping[str, Any], window: int) -> NDArray[np.int64]:
    """Supervised training targets of a group per bucket, shape [buckets]."""
    sources = summary["splits"][TRAIN]["sources"].values()
    return (
        np.array([s["histogram"] for s in sources], np.int64)
        .reshape(-1, bucket_count(window))
        .sum(0)
    )


def write_weights(histogram: NDArray[np.int64], window: int, exact: Exact, out: str) -> WeightTable:
    """The weight table of the corpus; it is written for the manifest.

    Args:
        histogram: supervised training targets per bucket, shape [buckets].
        window: window length in tokens.
        exact: the parameters of the weights.
        out: the shard set.
    """
    table = weight_table(histogram.tolist(), window, exact)
    rows = [asdict(row) for row in table.rows]
    Folder(out).write(
        f"{JOB}/weights.json", json.dumps({"budget": table.budget, "table": rows}).encode()
    )
    return table


def list_files(
    summaries: Sequence[Mapping[str, Any]], task: PackTask, workers: int | None
) -> "list[Files]":
    """What is to be written: the shards, and evenly among them the files of the documents table.

    Shards keep the disk busy, documents a processor. So they are done side by side.
    """
    kinds: tuple[Sequence[Files], ...] = (
        number_shards(summaries, task, workers),
        documents_tasks(task.parts),
    )
    placed = [((i + 0.5) / len(kind), files) for kind in kinds for i, files in enumerate(kind)]
    return [files for _, files in sorted(placed, key=itemgetter(0))]


def number_shards(
    summaries: Sequence[Mapping[str, Any]], task: PackTask, workers: int | None
) -> list[tuple[ShardTask, ...]]:
    """Every shard of the set: runs of the groups' windows, numbered in order.

    Each checks some parts of the store, see `with_checks`. Shards that one worker is to write one
    after the other are together, see `_together`.
    """
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
    shards = with_checks(shards, task.parts, summaries)
    return _together(shards, workers or 1, remote=not Folder(task.store).is_local)


def _together(
    shards: Sequence[ShardTask], workers: int, *, remote: bool
) -> list[tuple[ShardTask, ...]]:
    """Which shards one worker writes, one after the other.

    The documents of a group are shuffled, so each of its shards needs some of every part. Parts of
    a remote store are downloaded once for all shards of a group, not once for each. If there are
    fewer groups than workers, a group's shards are dealt out: then it is the time that counts.
    """
    if not remote:
        return [(shard,) for shard in shards]
    groups: dict[int, list[ShardTask]] = {}
    for shard in shards:
        groups.setdefault(shard.group, []).append(shard)
    shares = ceil(workers / max(1, len(groups)))
    dealt = (tuple(some[i::shares]) for some in groups.values() for i in range(shares))
    return [some for some in dealt if some]


def fill_shards(shards: Sequence[ShardTask], task: PackTask, table: WeightTable) -> None:
    """Writes shards of a group, each with its summary, after checking their share of the parts.

    Raises:
        FormatError: a part is damaged.
    """
    with Gather(Folder(task.store), task.parts, task.settings.window, task.pad_id) as gather:
        for shard in shards:
            _fill_shard(shard, task, table, gather)


def _fill_shard(shard: ShardTask, task: PackTask, table: WeightTable, gather: Gather) -> None:
    out, store = Folder(task.out), Folder(task.store)
    summary_name = f"{JOB}/{shard.name}.json"
    if out.exists(summary_name):
        return
    check_parts(shard.checks, store)
    weights = table.weights if shard.split == TRAIN else [1.0] * len(table.rows)
    with out.local_copies([plan_name(shard.group, shard.split)]) as local:
        (path,) = local.values()
        written = write_shard(
            shard,
            map_table(path),
            gather=gather,
            out=out,
            weights=weights,
        )
    write_json(out, summary_name, written)
    note_done(windows=shard.stop - shard.start, bytes=written["bytes"])


@dataclass(frozen=True)
class DocumentsTask:
    """One file of the documents table.

    Attributes:
        name: its path in the shard set.
        first, stop: the range of the store's parts with its documents.
        rows: how many documents these have.
    """

    name: str
    first: int
    stop: int
    rows: int


def documents_tasks(parts: Sequence[PartRef]) -> list[DocumentsTask]:
    """The files of the documents table: runs of parts with about a million documents each."""
    tasks: list[DocumentsTask] = []
    first = 0
    for run in runs(parts, lambda part: part.documents, DOCUMENTS_PER_FILE):
        name = f"documents/part-{len(tasks):05d}.parquet"
        rows = sum(part.documents for part in run)
        tasks.append(DocumentsTask(name, first, first + len(run), rows))
        first += len(run)
    return tasks


def fill_documents(
    documents: DocumentsTask,
    task: PackTask,
    repeated: Mapping[str, str],
    quotas: Mapping[str, Quota],
) -> None:
    """Writes a file of the documents table and then its summary; see `plan` for the arguments."""
    out, store = Folder(task.out), Folder(task.store)
    summary_name = f"{JOB}/{documents.name}.json"
    if out.exists(summary_name):
        return

    def tables() -> Iterator[pa.Table]:
        for part in task.parts[documents.first : documents.stop]:
            chosen = selected(part, task, repeated, quotas[part.source])
            hashes = part_index(part, store).hashes
            yield documents_table(
                part.source, part.part, read_ids(store, part.part), hashes, chosen
            )

    written = write_documents(out, documents.name, tables())
    write_json(out, summary_name, written)
    note_done(documents=written.get("rows", 0), bytes=written["bytes"])


Files = tuple[ShardTask, ...] | DocumentsTask
"""What one worker writes: shards, one after the other, or a file of the documents table."""


def work_of(files: Files, window: int) -> int:
    """How much work the files are, in tokens of a shard."""
    if isinstance(files, DocumentsTask):
        return TOKENS_PER_ROW * files.rows
    return window * sum(shard.stop - shard.start for shard in files)


def fill_files(
    files: Files,
    task: PackTask,
    table: WeightTable,
    repeated: Mapping[str, str],
    quotas: Mapping[str, Quota],
) -> None:
    """Writes files; see `fill_shards` and `fill_documents`.

    They are units of one stage, because the embedded runner begins a stage when the one before is
    done: workers without a shard write documents.
    """
    if isinstance(files, DocumentsTask):
        fill_documents(files, task, repeated, quotas)
    else:
        fill_shards(files, task, table)
