"""The Beam graph of packing.

    repeated ──> quotas ──> groups ──> plans ──> histogram ──> weights ──┐
                                         └─────> list of files ──────────┴──> shards, documents

Elements are small: names, ranges, histograms. Tokens and other bulk data go through files, which
the work units read and write.
"""

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsList, AsSingleton, PCollection

from ..beam.transforms import Crew, SumHistograms
from ..job.shipping import Shipped
from . import repeated_units, selection_units, units
from .task import PackTask

__all__ = ["pack_graph"]


def pack_graph(p: beam.Pipeline, task: PackTask, crew: Crew) -> None:
    """Adds the graph: plans groups, weighs the corpus, writes shards and the documents table.

    Args:
        p: the pipeline.
        task: the job.
        crew: who does the work.
    """
    window, shared = task.settings.window, crew.ship(task)
    repeated = AsDict(_find_repeated(p, task, shared, crew))
    quotas = AsSingleton(_quotas(p, task, shared, repeated, crew))
    plans = (
        p
        | "Form groups" >> crew.once(units.group, shared, quotas)
        | "Groups" >> crew.deal(lambda group: group.tokens)
        | "Plan groups" >> crew.work(units.plan, shared, repeated, quotas)
    )
    weights = (
        plans
        | "Histograms" >> beam.Map(units.train_histogram, window)
        | "Sum histograms" >> beam.CombineGlobally(SumHistograms(window)).without_defaults()
        | "Make weights" >> crew.work(units.write_weights, window, task.exact, task.out)
    )
    _ = (
        p
        | "List files" >> crew.once(units.list_files, AsList(plans), shared, crew.size)
        | "Files" >> crew.deal(lambda files: units.work_of(files, window), in_order=True)
        | "Write shards and documents"
        >> crew.work(units.fill_files, shared, AsSingleton(weights), repeated, quotas)
    )


def _find_repeated(
    p: beam.Pipeline, task: PackTask, shared: Shipped[PackTask], crew: Crew
) -> PCollection:
    """Pairs of part and file that lists its repeated documents; none if these are kept."""
    runs = repeated_units.part_runs(task.parts) if task.dedup else []
    ranges = range(repeated_units.hash_ranges(task.parts) if task.dedup else 0)
    part_runs = p | "Part runs" >> crew.units(runs, lambda run: run.documents)
    spread = part_runs | "Sort hashes into ranges" >> crew.work(
        repeated_units.spread_hashes, shared
    )
    found = (
        p
        | "Hash ranges" >> crew.units(ranges, lambda _: 1)
        | "Find repeated" >> crew.work(repeated_units.find_repeated, shared, AsList(spread))
    )
    return part_runs | "List repeated by part" >> crew.work(
        repeated_units.merge_repeated, shared, AsList(found), many=True
    )


def _quotas(
    p: beam.Pipeline, task: PackTask, shared: Shipped[PackTask], repeated: AsDict, crew: Crew
) -> PCollection:
    """The quotas of all sources, as one element."""
    if not task.mixes:
        return p | "Plain quotas" >> crew.once(selection_units.plain_quotas, shared)
    source_runs = p | "Source runs" >> crew.units(
        selection_units.source_runs(task.parts), lambda run: sum(part.documents for part in run)
    )
    measures = (
        source_runs
        | "Measure parts" >> crew.work(selection_units.measure, shared, repeated)
        | "Sum measures" >> beam.CombinePerKey(selection_units.Measure.total)
    )
    targets = p | "Targets" >> crew.once(selection_units.targets, shared, AsDict(measures))
    candidates = (
        source_runs
        | "Find candidates"
        >> crew.work(selection_units.candidates, shared, repeated, AsSingleton(targets), many=True)
        | "Candidates of a source" >> beam.GroupByKey()
    )
    return p | "Quotas" >> crew.once(
        selection_units.quotas, shared, AsSingleton(targets), AsDict(candidates)
    )
