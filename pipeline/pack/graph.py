"""The Beam graph of packing.

    repeated ──> quotas ──> groups ──> plans ──> histogram ──> weights ─┐
                                         └─────> numbered shards ───────┴──> shards
    repeated, quotas ──> documents table

Elements are small: names, ranges, histograms. Tokens and other bulk data go through files, which
the work units read and write.
"""

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsIter, AsSingleton, PCollection

from ..beam.transforms import Once, Spread, SumHistograms, Work, assign_lanes
from . import repeated_units, selection_units, units
from .task import PackTask

__all__ = ["pack_graph"]


def pack_graph(p: beam.Pipeline, task: PackTask, lanes: int | None) -> None:
    """Adds the graph: plans groups, weighs the corpus, writes shards and the documents table.

    Args:
        p: the pipeline.
        task: the job.
        lanes: see `transforms.assign_lanes`.
    """
    window = task.settings.window
    repeated = AsDict(_find_repeated(p, task, lanes))
    quotas = AsSingleton(_quotas(p, task, repeated, lanes))
    plans = (
        p
        | "Group" >> Once(units.group, task.out, task, quotas)
        | "Groups" >> beam.FlatMap(assign_lanes, lambda group: group.tokens, lanes)
        | "Spread groups" >> Spread()
        | "Plan" >> beam.ParDo(Work(units.plan, task.out), task, repeated, quotas)
    )
    weights = (
        plans
        | "Histograms" >> beam.Map(units.train_histogram, window)
        | "Sum histograms" >> beam.CombineGlobally(SumHistograms(window))
        | "Weigh" >> beam.ParDo(Work(units.write_weights, task.out), window, task.exact, task.out)
    )
    _ = (
        plans
        | "All plans" >> beam.combiners.ToList()
        | "Number shards" >> beam.FlatMap(units.number_shards, task, lanes)
        | "Spread shards" >> Spread()
        | "Write shards" >> beam.ParDo(Work(units.fill_shard, task.out), task, AsSingleton(weights))
    )
    _ = (
        p
        | "Documents"
        >> beam.Create(assign_lanes(units.documents_tasks(task.parts), lambda d: d.rows, lanes))
        | "Spread documents" >> Spread()
        | "Write documents"
        >> beam.ParDo(Work(units.fill_documents, task.out), task, repeated, quotas)
    )


def _find_repeated(p: beam.Pipeline, task: PackTask, lanes: int | None) -> PCollection:
    """Pairs of part and file that lists its repeated documents; none if these are kept."""
    runs = repeated_units.part_runs(task.parts) if task.dedup else []
    ranges = range(repeated_units.hash_ranges(task.parts)) if task.dedup else ()
    part_runs = (
        p
        | "Part runs" >> beam.Create(assign_lanes(runs, lambda run: run.documents, lanes))
        | "Spread part runs" >> Spread()
    )
    spread = part_runs | "Spread hashes" >> beam.ParDo(
        Work(repeated_units.spread_hashes, task.out), task
    )
    found = (
        p
        | "Hash ranges" >> beam.Create(assign_lanes(ranges, lambda _: 1, lanes))
        | "Spread hash ranges" >> Spread()
        | "Find repeated"
        >> beam.ParDo(Work(repeated_units.find_repeated, task.out), task, AsIter(spread))
    )
    return part_runs | "Merge repeated" >> beam.ParDo(
        Work(repeated_units.merge_repeated, task.out, many=True), task, AsIter(found)
    )


def _quotas(p: beam.Pipeline, task: PackTask, repeated: AsDict, lanes: int | None) -> PCollection:
    """The quotas of all sources, as one element."""
    if not task.mixes:
        return p | "Plain quotas" >> beam.Create([selection_units.plain_quotas(task)])
    parts = (
        p
        | "Parts" >> beam.Create(assign_lanes(task.parts, lambda part: part.documents, lanes))
        | "Spread parts" >> Spread()
    )
    measures = (
        parts
        | "Measure" >> beam.ParDo(Work(selection_units.measure, task.out), task, repeated)
        | "Sum measures" >> beam.CombinePerKey(selection_units.Measure.total)
    )
    targets = p | "Targets" >> Once(selection_units.targets, task.out, task, AsDict(measures))
    candidates = (
        parts
        | "Candidates"
        >> beam.ParDo(
            Work(selection_units.candidates, task.out, many=True),
            task,
            repeated,
            AsSingleton(targets),
        )
        | "Candidates of a source" >> beam.GroupByKey()
    )
    return p | "Quotas" >> Once(
        selection_units.quotas, task.out, task, AsSingleton(targets), AsDict(candidates)
    )
