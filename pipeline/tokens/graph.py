"""The Beam graph of tokenization."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsDict

from ..beam.transforms import Spread, Work, assign_lanes
from ..sources.splits import Split
from .task import TokenizeTask
from .units import ScanTask, scan_files, tokenize_split

__all__ = ["tokenize_graph"]


def tokenize_graph(
    p: beam.Pipeline,
    task: TokenizeTask,
    scans: Sequence[ScanTask],
    splits: Sequence[Split],
    lanes: int | None,
) -> None:
    """Scans files, then tokenizes their splits into parts.

    Args:
        p: the pipeline that gets the steps.
        task: how to tokenize.
        scans: the files to scan.
        splits: the splits to tokenize.
        lanes: see `transforms.assign_lanes`.
    """
    facts = (
        p
        | "Files" >> beam.Create(assign_lanes(scans, lambda s: s.work, lanes))
        | "Spread files" >> Spread()
        | "Scan files" >> beam.ParDo(Work(scan_files, task.store, many=True), task.store)
    )
    _ = (
        p
        | "Splits" >> beam.Create(assign_lanes(splits, lambda s: s.work, lanes))
        | "Spread splits" >> Spread()
        | "Tokenize" >> beam.ParDo(Work(tokenize_split, task.store), task, AsDict(facts))
    )
