"""A trace of some steps, for whoever wants to see where their time goes.

RUN/profile/step-00000003.json    from that step on; chrome://tracing and ui.perfetto.dev show it
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from ...schemas.disk import written_whole
from .world import World

__all__ = ["profiled"]

BEFORE = 2
"""Steps that are taken first: they compile, and fill caches."""


@contextmanager
def profiled(
    run: Path, world: World, *, after: int, steps: int, say: Callable[[str], None]
) -> Iterator[Callable[[], None]]:
    """Traces some steps on the first rank.

    Args:
        run: folder of the run.
        world: its ranks.
        after: number of steps that were taken before this start.
        steps: how many to trace; 0 for none.
        say: is told where the trace is.

    Yields:
        A function to be called after each step.
    """
    if not steps or not world.is_first:
        yield lambda: None
        return
    first = after + BEFORE + 1
    path = run / "profile" / f"step-{first:08d}.json"

    def write(found: profile) -> None:
        if found.step_num <= BEFORE:  # the run ended before them
            return
        with written_whole(path) as scratch:
            found.export_chrome_trace(str(scratch))
        say(f"the trace is complete: {path}")

    activities = [ProfilerActivity.CPU]
    if world.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    plan = schedule(wait=BEFORE - 1, warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        yield profiler.step
