"""The Beam graph of tokenization."""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsDict

from ..beam.transforms import Crew
from ..sources.splits import Split
from .task import TokenizeTask
from .units import ScanTask, readings, scan_and_tokenize, scan_files, tokenize_split

__all__ = ["tokenize_graph"]


def tokenize_graph(
    p: beam.Pipeline,
    task: TokenizeTask,
    scans: Sequence[ScanTask],
    splits: Sequence[Split],
    crew: Crew,
) -> None:
    """Scans files, then tokenizes their splits into parts.

    Where one process does all units, each file is scanned right before it is tokenized.

    Args:
        p: the pipeline that gets the steps.
        task: how to tokenize.
        scans: the files to scan.
        splits: the splits to tokenize.
        crew: who does the work.
    """
    if crew.processes == 1:
        _ = (
            p
            | "Splits" >> crew.units(readings(splits, scans), lambda reading: reading.rank)
            | "Tokenize" >> crew.work(scan_and_tokenize, task)
        )
        return
    newlines = AsDict(
        p
        | "Files" >> crew.units(scans, lambda scan: scan.work)
        | "Read files for checksums" >> crew.work(scan_files, task.store, many=True)
    )
    _ = (
        p
        | "Splits" >> crew.units(splits, lambda split: split.work)
        | "Tokenize" >> crew.work(tokenize_split, task, newlines)
    )
