"""One work unit for each of many values, on threads of this process or on a Beam runner.

Of the values with which something is wrong, the first is told, wherever they are looked at.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from ...schemas.errors import FormatError
from ..files.storage import Folder
from ..job.mistakes import Mistakes
from ..job.threads import in_order
from .metrics import note_done
from .runner import RunSettings, run

__all__ = ["Job", "do_each"]

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, kw_only=True)
class Job(Generic[T, S]):
    """What is to be done for each value; a unit that is done already does nothing.

    Attributes:
        title: what the work is, in the imperative: the name of the graph's stage.
        unit: does it, for a value and what all share; returns what it did, for Beam's metrics.
        values: the values, in the order in which a person expects mistakes to be told.
        shared: what all units need.
        work: how much work a value is, on any scale.
    """

    title: str
    unit: Callable[[T, S], Mapping[str, int]]
    values: Sequence[T]
    shared: S
    work: Callable[[T], int]


def do_each(
    job: Job[Any, Any], settings: RunSettings, folder: Folder, poll: Callable[[], None]
) -> None:
    """Does a job.

    Args:
        job: the job.
        settings: where it is done. Threads of the embedded runner need no graph, and no Beam.
        folder: where it writes.
        poll: called several times a second.

    Raises:
        FormatError: something is wrong with a value.
        ExactcptError: a unit failed in another way.
    """
    if settings.is_embedded and settings.worker_type == "threads":
        done = in_order(partial(_on_thread, job), job.values, settings.workers, poll)
        for _ in done:
            pass
        return
    mistakes = Mistakes(folder.url)
    mistakes.forget()
    try:
        run(lambda p, crew: _add_graph(p, job, mistakes, crew), settings, folder, poll)
        mistakes.raise_first()
    finally:
        with suppress(Exception):  # drivers raise any class; the next run removes it
            mistakes.forget()


def _on_thread(job: Job[Any, Any], value: Any) -> None:
    job.unit(value, job.shared)


def _add_graph(p: Any, job: Job[Any, Any], mistakes: Mistakes, crew: Any) -> None:
    numbered = [*enumerate(job.values)]
    _ = (
        p
        | "Values" >> crew.units(numbered, lambda one: job.work(one[1]))
        | job.title >> crew.work(_Noting(job.unit, mistakes), crew.ship(job.shared))
    )


@dataclass(frozen=True)
class _Noting:
    """A unit that notes what is wrong with its value, unless something is with an earlier one."""

    unit: Callable[..., Mapping[str, int]]
    mistakes: Mistakes

    @property
    def __name__(self) -> str:
        return self.unit.__name__

    def __call__(self, numbered: tuple[int, Any], shared: Any) -> None:
        place, value = numbered
        if self.mistakes.before(place):
            return
        try:
            note_done(**self.unit(value, shared))
        except FormatError as error:
            self.mistakes.note(place, error)
