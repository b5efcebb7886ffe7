"""The Beam graph of weighing.

    files ──> checksums                          (where one process does all units: with the splits)
    splits ──> counts ──> histogram ──> weights ─┐
                  └─────> numbered shards ───────┴──> shards and documents

Elements are small: names, ranges, histograms. Windows go from file to file.
"""

from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsList, AsSingleton

from ..beam.transforms import Crew, SumHistograms
from ..pack.units import write_weights
from ..sources.splits import Split
from ..tokens.units import ScanTask, readings, scan_files
from . import units
from .task import WeighTask

__all__ = ["weigh_graph"]


def weigh_graph(
    p: beam.Pipeline,
    task: WeighTask,
    scans: Sequence[ScanTask],
    splits: Sequence[Split],
    crew: Crew,
) -> None:
    """Adds the graph: counts windows, weighs the corpus, writes shards and the documents table.

    Args:
        p: the pipeline.
        task: the job.
        scans: the files to scan.
        splits: the inputs.
        crew: who does the work.
    """
    if crew.processes == 1:
        read = readings(splits, scans)
        counts = (
            p
            | "Splits" >> crew.units(read, lambda reading: reading.rank)
            | "Count windows" >> crew.work(units.scan_and_count, task)
        )
        write = units.write_scanned
        found: Any = crew.ship({each.split.ordinal: each.scans for each in read})
    else:
        found = AsDict(
            p
            | "Files" >> crew.units(scans, lambda scan: scan.work)
            | "Read files for checksums" >> crew.work(scan_files, task.out, many=True)
        )
        counts = (
            p
            | "Splits" >> crew.units(splits, lambda split: split.work)
            | "Count windows" >> crew.work(units.count_split, task, found)
        )
        write = units.write_split
    weights = (
        counts
        | "Histograms" >> beam.Map(units.histogram_of, task)
        | "Sum histograms" >> beam.CombineGlobally(SumHistograms(task.window)).without_defaults()
        | "Make weights" >> crew.work(write_weights, task.window, task.exact, task.out)
    )
    _ = (
        p
        | "Number shards" >> crew.once(units.number_shards, AsList(counts), task)
        | "Shards" >> crew.deal(lambda mine: mine.segments)
        | "Write shards" >> crew.work(write, task, found, AsSingleton(weights))
    )
