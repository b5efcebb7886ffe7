"""Beam's metrics: what an engine's own page shows of a stage while it works.

They count what a run does, so that a continued job shows what was left to do. The files of the job
count all of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

__all__ = ["NAMESPACE", "lasted", "note_done", "noted_later"]

NAMESPACE = "exactcpt"
Note = Callable[[], None]
_later: ContextVar[list[Note] | None] = ContextVar("later", default=None)


@contextmanager
def noted_later() -> Iterator[list[Note]]:
    """Collects what a block notes, for the thread of the stage to note: Beam knows no other."""
    notes: list[Note] = []
    token = _later.set(notes)
    try:
        yield notes
    finally:
        _later.reset(token)


def note_done(**amounts: int) -> None:
    """Adds to counters of the stage that this thread works for, if there is one.

    Args:
        amounts: what has been done, by the counter's name.
    """
    from apache_beam.metrics.metric import Metrics

    for name, amount in amounts.items():
        _note(partial(Metrics.counter(NAMESPACE, name).inc, amount))


def lasted(seconds: float) -> None:
    """Notes how long a unit took, in whole milliseconds: Beam's distributions are of integers."""
    from apache_beam.metrics.metric import Metrics

    distribution = Metrics.distribution(NAMESPACE, "milliseconds")
    _note(partial(distribution.update, round(1000 * seconds)))


def _note(note: Note) -> None:
    later = _later.get()
    if later is None:
        note()
    else:
        later.append(note)
