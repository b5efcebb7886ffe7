"""The Beam graph of weighing.

    files ──> checksums
    splits ──> counts ──> histogram ──> weights ─┐
                  └─────> numbered shards ───────┴──> shards and documents

Elements are small: names, ranges, histograms. Windows go from file to file.
"""

from collections.abc import Sequence

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsSingleton

from ..beam.transforms import Spread, SumHistograms, Work, assign_lanes
from ..pack.units import write_weights
from ..sources.splits import Split
from ..tokens.units import ScanTask, scan_files
from . import units
from .task import WeighTask

__all__ = ["weigh_graph"]


def weigh_graph(
    p: beam.Pipeline,
    task: WeighTask,
    scans: Sequence[ScanTask],
    splits: Sequence[Split],
    lanes: int | None,
) -> None:
    """Adds the graph: counts windows, weighs the corpus, writes shards and the documents table.

    Args:
        p: the pipeline.
        task: the job.
        scans: the files to scan.
        splits: the inputs.
        lanes: see `transforms.assign_lanes`.
    """
    newlines = AsDict(
        p
        | "Files" >> beam.Create(assign_lanes(scans, lambda s: s.work, lanes))
        | "Spread files" >> Spread()
        | "Scan files" >> beam.ParDo(Work(scan_files, task.out, many=True), task.out)
    )
    counts = (
        p
        | "Splits" >> beam.Create(assign_lanes(splits, lambda s: s.work, lanes))
        | "Spread splits" >> Spread()
        | "Count" >> beam.ParDo(Work(units.count_split, task.out), task, newlines)
    )
    weights = (
        counts
        | "Histograms" >> beam.Map(units.histogram_of, task)
        | "Sum histograms" >> beam.CombineGlobally(SumHistograms(task.window))
        | "Weigh" >> beam.ParDo(Work(write_weights, task.out), task.window, task.exact, task.out)
    )
    _ = (
        counts
        | "All counts" >> beam.combiners.ToList()
        | "Number shards" >> beam.FlatMap(units.number_shards, task, lanes)
        | "Spread shards" >> Spread()
        | "Write shards"
        >> beam.ParDo(Work(units.write_split, task.out), task, newlines, AsSingleton(weights))
    )
