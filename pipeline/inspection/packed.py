"""The inspection of windows that somebody else has packed, before they are weighed."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.whatif import Exposure, SourceExposure
from ..files.storage import Folder
from ..pack.settings import settings_with
from ..weigh.counting import Count, count_rows
from ..weigh.manifest import manifest_of, refuse_lost_boundaries
from ..weigh.plan import WeighPlan
from ..weigh.rows import rows_of
from ..weigh.task import weigh_task
from .command_lines import weigh_command
from .counted import row_of
from .subject import Subject

__all__ = ["inspect_packed"]


def inspect_packed(
    plan: WeighPlan,
    sources: Sequence[str],
    flags: Sequence[str],
    weighings: Sequence[Mapping[str, Any]],
) -> Subject:
    """Counts what packed windows contain, with each weighing.

    Args:
        plan: the windows.
        sources: as the command line names them.
        flags: what else `weigh` has to be told to read them.
        weighings: parameters of the weights that replace the defaults.

    Raises:
        ExactcptError: a row or a file cannot be used, or the boundaries are lost.
    """
    task = weigh_task(plan, Folder("."))
    counts = {name: Count.empty(task.window) for name in plan.tokens.files}
    for split in plan.splits:
        counts[split.source].add(count_rows(rows_of(split, task, {}), task))
    refuse_lost_boundaries(plan, counts)
    manifest = manifest_of(plan, counts)
    own = {name: value for name, value in plan.settings.items() if name != "tokenize"}
    exposure = _exposure(counts, task.window)
    settings = [settings_with(own, weighing) for weighing in weighings]
    return Subject(
        path=" ".join(sources),
        kind="packed windows",
        manifest=manifest,
        longest_document=max(count.longest for count in counts.values()),
        rows=tuple(row_of(one, exposure, weigh_command(sources, flags, one)) for one in settings),
    )


def _exposure(counts: Mapping[str, Count], window: int) -> Exposure:
    total = Count.empty(window)
    for count in counts.values():
        total.add(count)
    return Exposure(
        window=window,
        windows=total.windows,
        segments=total.segments,
        cut_documents=0,
        largest_context=max(0, total.longest - 1),
        windows_by_largest=total.windows_by_largest,
        sources={
            name: SourceExposure(
                documents=count.segments, tokens=count.tokens, histogram=count.histogram
            )
            for name, count in counts.items()
        },
    )
