"""Beam's metrics: what an engine's own page shows of a stage while it works.

They count what a run does, so that a continued job shows what was left to do. The files of the job
count all of it.
"""

from collections.abc import Callable
from typing import TypeVar

__all__ = ["NAMESPACE", "for_this_stage", "lasted", "note_done"]

NAMESPACE = "exactcpt"
A = TypeVar("A")
R = TypeVar("R")


def for_this_stage(function: Callable[[A], R]) -> Callable[[A], R]:
    """A function which other threads may call, and which counts for the stage of this thread."""
    from apache_beam.runners.worker import statesampler

    tracker = statesampler.get_current_tracker()

    def counting(argument: A) -> R:
        statesampler.set_current_tracker(tracker)
        return function(argument)

    return counting


def note_done(**amounts: int) -> None:
    """Adds to counters of the stage that this thread works for, if there is one.

    Args:
        amounts: what has been done, by the counter's name.
    """
    from apache_beam.metrics.metric import Metrics

    for name, amount in amounts.items():
        Metrics.counter(NAMESPACE, name).inc(amount)


def lasted(seconds: float) -> None:
    """Notes how long a unit took, in whole milliseconds: Beam's distributions are of integers."""
    from apache_beam.metrics.metric import Metrics

    Metrics.distribution(NAMESPACE, "milliseconds").update(round(1000 * seconds))
