"""The Beam transforms that the graphs are made of; the work units are elsewhere."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray

from ..core.buckets import bucket_count
from ..job.attempt import Attempt
from ..job.halt import Guard
from ..job.shipping import Item, Shipped, ship
from .metrics import lasted, note_done

__all__ = ["Crew", "SumHistograms", "assign_lanes"]

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


@dataclass(frozen=True)
class Crew:
    """Those who do the work of one run of a graph.

    Attributes:
        attempt: the run.
        lanes: how many workers the embedded runner has; None for another runner, which spreads the
            work itself.
        reshuffles: whether such a runner knows Beam's Reshuffle, for which some rebalance the work.
            Runners that are not Beam's may know only what every graph needs, such as Create and
            GroupByKey.
    """

    attempt: Attempt
    lanes: int | None = None
    reshuffles: bool = True

    def start(self) -> beam.PTransform:
        """Makes a single element, from which a branch of the graph starts."""
        return beam.Impulse() if self.reshuffles else beam.Create([b""])

    def ship(self, value: T) -> Shipped[T]:
        """Makes a value an argument of work units that does not make the graph larger."""
        return ship(value, self.attempt)

    def units(self, values: Sequence[T], work: Callable[[T], int]) -> "_Units":
        """The elements that work units are called for, spread over the workers; see `spread`.

        Args:
            values: one for each element; the graph has only their number.
            work: how much work an element is, on any scale.
        """
        return _Units(self, values, work)

    def spread(self) -> "_Spread":
        """(lane, element) -> element: one worker does what is in a lane.

        The embedded runner gives every worker one bundle per stage, whatever the bundles cost. With
        one lane per worker the caller decides which worker does what. Other runners deal the
        elements out themselves.
        """
        return _Spread(by_lane=self.lanes is not None or not self.reshuffles)

    def work(self, unit: Callable[..., Any], *sides: Any, many: bool = False) -> beam.ParDo:
        """Calls a work unit for each element, guarded.

        Args:
            unit: the function to call.
            sides: its further arguments; those that are side inputs or were shipped are passed as
                their values.
            many: whether it returns several results.
        """
        return beam.ParDo(_Work(unit, self.attempt, many=many), *sides)

    def once(self, unit: Callable[..., Any], *arguments: Any, many: bool = False) -> "_Once":
        """Calls a work unit once for the whole job, without an element.

        Args:
            unit: the function to call.
            arguments: of the unit; see `work`.
            many: whether it returns several results.
        """
        return _Once(self, _Work(unit, self.attempt, many=many, element=False), arguments)


class _Work(beam.DoFn):
    """See `Crew.work`; `element` says whether the unit takes the element."""

    def __init__(
        self, unit: Callable[..., Any], attempt: Attempt, *, many: bool, element: bool = True
    ) -> None:
        self._unit = Guard(_Unpacked(unit), attempt)
        self._many, self._takes_element = many, element

    def process(self, element: Any, *sides: Any) -> Iterable[Any]:
        """Calls the unit."""
        began = time.monotonic()
        result = self._unit(element, *sides) if self._takes_element else self._unit(*sides)
        note_done(units=1)
        lasted(time.monotonic() - began)
        return result if self._many else [result]


@dataclass(frozen=True)
class _Unpacked:
    """A function whose arguments may be shipped."""

    function: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        return self.function(
            *(each.value if isinstance(each, Shipped | Item) else each for each in args)
        )


class _Once(beam.PTransform):
    """See `Crew.once`."""

    def __init__(self, crew: Crew, work: _Work, arguments: tuple[Any, ...]) -> None:
        super().__init__()
        self._crew, self._work, self._arguments = crew, work, arguments

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        start = input_or_inputs | "Start" >> self._crew.start()
        return start | "Call" >> beam.ParDo(self._work, *self._arguments)


class _Units(beam.PTransform):
    """See `Crew.units`."""

    def __init__(self, crew: Crew, values: Sequence[Any], work: Callable[[Any], int]) -> None:
        super().__init__()
        self._crew, self._values, self._work = crew, values, work

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        shipped = self._crew.ship(self._values)
        return (
            input_or_inputs
            | "Start" >> self._crew.start()
            | "All" >> self._all()
            | "Spread" >> self._crew.spread()
            | "Take" >> beam.Map(lambda index: Item(shipped, index))
        )

    def _all(self) -> beam.ParDo:
        """Pairs of lane and index. No runner but the embedded one gets a list of them."""
        indices, lanes = range(len(self._values)), self._crew.lanes
        if lanes is None:
            return beam.FlatMap(lambda _: enumerate(indices))
        pairs = assign_lanes(indices, lambda i: self._work(self._values[i]), lanes)
        return beam.FlatMap(lambda _: pairs)


class _Spread(beam.PTransform):
    """See `Crew.spread`."""

    def __init__(self, *, by_lane: bool) -> None:
        super().__init__()
        self._by_lane = by_lane

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        if not self._by_lane:
            return input_or_inputs | beam.Values() | beam.Reshuffle()
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
