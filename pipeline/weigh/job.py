"""The job `weigh`: packed windows in, a shard set out."""

from typing import Any

from ...schemas.manifest import SHARD_SET, TOKENIZER
from ..beam.runner import RunSettings, run
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import STATE, Finished, State, begin, locked
from ..job.progress import Count as Done
from ..job.progress import Progress
from ..pack.manifest import OWNED, read_summaries
from ..pack.progress import WindowsDone
from ..terminal import Console
from ..tokens.inputs import same_inputs
from ..tokens.units import scan_tasks
from .manifest import counts_by_source, refuse_lost_boundaries, write_manifest
from .plan import WeighPlan
from .task import WeighTask, weigh_task
from .units import COUNTS, NUMBERED

__all__ = ["weigh"]


def weigh(
    plan: WeighPlan, out: Folder, settings: RunSettings, console: Console, *, overwrite: bool
) -> Finished:
    """Runs the job.

    Args:
        plan: what to weigh.
        out: where the shard set is written.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The shard set.

    Raises:
        ExactcptError: a row cannot be used, the boundaries are lost, or a work unit failed.
    """
    with locked(out):
        state = plan.state if overwrite else _as_begun(plan, out, console)
        if begin(out, state, OWNED, overwrite=overwrite):
            return Finished.found_in(out, SHARD_SET)
        out.write(TOKENIZER, plan.tokens.tokenizer.json)
        _run(plan, out, settings, console)
        refuse_lost_boundaries(plan, counts_by_source(plan, read_summaries(out, "counts")))
        return Finished(manifest=write_manifest(plan, state, out), before=False)


def _as_begun(plan: WeighPlan, out: Folder, console: Console) -> State:
    """The state of the plan, with the inputs as the folder's job has listed them if they are the
    same."""
    if plan.identity is not None or not out.exists(STATE):
        return plan.state
    kept = State.read(out, STATE).inputs
    inputs = same_inputs(plan.tokens, kept, out, console.say)
    return State(settings=plan.settings, inputs=inputs)


def _run(plan: WeighPlan, out: Folder, settings: RunSettings, console: Console) -> None:
    from .graph import weigh_graph

    task, splits = weigh_task(plan, out), plan.splits
    scans = scan_tasks(splits)

    def build(p: Any, crew: Any) -> None:
        weigh_graph(p, task, scans, splits, crew)

    with Progress(console, "weigh", _Done(out, task, len(splits))) as progress:
        run(build, settings, out, progress.poll)


class _Done:
    """Counts the splits that have been counted, and then the tokens that have been written."""

    def __init__(self, out: Folder, task: WeighTask, splits: int) -> None:
        self._out, self._window, self._splits = out, task.window, splits
        self._windows = WindowsDone(out)

    def __call__(self) -> Done:
        if not self._out.exists(NUMBERED):
            counted = [name for name in self._out.names(COUNTS) if "/." not in name]
            return Done(len(counted), self._splits, "split")
        windows = read_json(self._out, NUMBERED, ("windows",))["windows"]
        return Done(self._windows() * self._window, windows * self._window)
