"""The Beam transforms that the graphs are made of; the work units are elsewhere."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from ..core.buckets import bucket_count
from ..job.halt import Guard

__all__ = ["Once", "Spread", "SumHistograms", "Work", "assign_lanes"]

T = TypeVar("T")


class SumHistograms(beam.CombineFn):
    """Adds int64 histograms; the sum is exact in any order and grouping."""

    def __init__(self, window: int) -> None:
        self._buckets = bucket_count(window)

    def create_accumulator(self) -> NDArray[np.int64]:
        """A histogram without targets."""
        return np.zeros(self._buckets, np.int64)

    def add_input(
        self, mutable_accumulator: NDArray[np.int64], element: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """The sum and one more histogram."""
        return mutable_accumulator + element

    def merge_accumulators(self, accumulators: Iterable[NDArray[np.int64]]) -> NDArray[np.int64]:
        """The sum of partial sums."""
        return sum(accumulators, self.create_accumulator())

    def extract_output(self, accumulator: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sum."""
        return accumulator


class Work(beam.DoFn):
    """Applies a work unit to each element, guarded; side inputs are its further arguments.

    Args:
        unit: the function to call.
        folder: path or URL of the folder that the job writes.
        many: whether the unit returns several results.
        element: whether the unit takes the element; see `Once`.
    """

    def __init__(
        self, unit: Callable[..., Any], folder: str, *, many: bool = False, element: bool = True
    ) -> None:
        self._unit, self._many, self._takes_element = Guard(unit, folder), many, element

    def process(self, element: Any, *sides: Any) -> Iterable[Any]:
        """Calls the unit."""
        result = self._unit(element, *sides) if self._takes_element else self._unit(*sides)
        return result if self._many else [result]


class Once(beam.PTransform):
    """Calls a work unit once for the whole job, without an element; it has one result.

    Args:
        unit: the function to call.
        folder: path or URL of the folder that the job writes.
        arguments: of the unit; those that are side inputs are passed as their values.
    """

    def __init__(self, unit: Callable[..., Any], folder: str, *arguments: Any) -> None:
        super().__init__()
        self._work, self._arguments = Work(unit, folder, element=False), arguments

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        start = input_or_inputs | "Start" >> beam.Create([None])
        return start | "Call" >> beam.ParDo(self._work, *self._arguments)


class Spread(beam.PTransform):
    """(lane, unit) -> unit: one worker does the units of a lane, and lanes are independent.

    The embedded runner gives every worker one bundle per stage, whatever the bundles cost. With one
    lane per worker the caller decides which worker does what. On other runners every unit has its
    own lane, and this is a reshuffle: the runner may move units between workers.
    """

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        return (
            input_or_inputs
            | "Group by lane" >> beam.GroupByKey()
            | "Units" >> beam.FlatMap(lambda lane: lane[1])
        )


def assign_lanes(
    units: Sequence[T], work: Callable[[T], int], lanes: int | None
) -> list[tuple[int, T]]:
    """Pairs of lane and unit: the largest unit first, each in the lane with the least work so far.

    Args:
        units: the work units.
        work: how much work a unit is, on any scale.
        lanes: how many there are; None for one lane per unit.
    """
    if lanes is None:
        return list(enumerate(units))
    load = [0] * lanes
    assigned: list[tuple[int, T]] = []
    for unit in sorted(units, key=work, reverse=True):
        lane = min(range(lanes), key=lambda i: load[i])
        load[lane] += max(1, work(unit))
        assigned.append((lane, unit))
    return assigned
