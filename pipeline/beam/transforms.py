"""The Beam transforms that the graphs are made of; the work units are elsewhere."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeVar

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsIter
from apache_beam.transforms.window import GlobalWindows
from numpy.typing import NDArray

from ..core.buckets import bucket_count
from ..job.attempt import Attempt
from ..job.halt import Guard
from ..job.shipping import Item, Shipped, ship
from ..job.threads import in_order
from .metrics import lasted, note_done, noted_later

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
        processes: how many workers the embedded runner has that are processes; it gives each of
            them one bundle of a stage. None for another runner, which spreads the work itself.
        threads: how many units a worker does at the same time.
        of_beam: whether the runner is one of Beam's own. Others may know only what every graph
            needs, such as Create and GroupByKey, and neither Impulse nor Reshuffle, for which some
            rebalance the work.
    """

    attempt: Attempt
    processes: int | None = None
    threads: int = 1
    of_beam: bool = True

    @property
    def size(self) -> int | None:
        """How many units are done at the same time; None if nobody knows."""
        return None if self.processes is None else self.processes * self.threads

    def start(self) -> beam.PTransform:
        """Makes a single element, from which a branch of the graph starts."""
        return beam.Impulse() if self.of_beam else beam.Create([b""])

    def ship(self, value: T) -> Shipped[T]:
        """Makes a value an argument of work units that does not make the graph larger."""
        return ship(value, self.attempt)

    def units(self, values: Sequence[T], work: Callable[[T], int]) -> "_Units":
        """The elements that work units are called for, dealt out to the workers.

        Args:
            values: one for each element; the graph has only their number.
            work: how much work an element is, on any scale.
        """
        return _Units(self, values, work)

    def deal(self, work: Callable[[Any], int], *, in_order: bool = False) -> "_Deal":
        """A list becomes its items, dealt out to the workers.

        Args:
            work: how much work an item is, on any scale.
            in_order: whether each of the embedded runner's workers does its items in the order of
                the list, and not the largest first.
        """
        return _Deal(self, work, in_order)

    def work(self, unit: Callable[..., Any], *sides: Any, many: bool = False) -> beam.ParDo:
        """Calls a work unit for each element, guarded.

        Args:
            unit: the function to call.
            sides: its further arguments; those that are side inputs or were shipped are passed as
                their values. None is read little by little, which only Beam's own thread can do.
            many: whether it returns several results.
        """
        assert not any(isinstance(side, AsIter) for side in sides)
        kind = _Work if self.threads == 1 else _WorkOnThreads
        return beam.ParDo(kind(unit, self, many=many), *sides)

    def once(self, unit: Callable[..., Any], *arguments: Any, many: bool = False) -> "_Once":
        """Calls a work unit once for the whole job, without an element.

        Args:
            unit: the function to call.
            arguments: of the unit; see `work`.
            many: whether it returns several results.
        """
        return _Once(self, _Work(unit, self, many=many, element=False), arguments)


class _Work(beam.DoFn):
    """See `Crew.work`; `element` says whether the unit takes the element."""

    def __init__(
        self, unit: Callable[..., Any], crew: Crew, *, many: bool, element: bool = True
    ) -> None:
        self._unit = Guard(_Unpacked(unit), crew.attempt, unit.__name__.replace("_", " "))
        self._many, self._takes_element = many, element

    def process(self, element: Any, *sides: Any) -> Iterable[Any]:
        """Calls the unit."""
        began = time.monotonic()
        result = self._unit(element, *sides) if self._takes_element else self._unit(*sides)
        note_done(units=1)
        lasted(time.monotonic() - began)
        return result if self._many else [result]


class _WorkOnThreads(_Work):
    """Calls the unit for several elements of a bundle at once: a thread that is free takes one."""

    def __init__(self, unit: Callable[..., Any], crew: Crew, *, many: bool) -> None:
        super().__init__(unit, crew, many=many)
        self._threads = crew.threads

    def start_bundle(self) -> None:
        """The bundle has no elements yet."""
        self._calls: list[tuple[Any, ...]] = []

    def process(self, element: Any, *sides: Any) -> Iterable[Any]:
        """Takes note of the element."""
        self._calls.append((element, *sides))
        return ()

    def finish_bundle(self) -> Any:
        """Calls the unit for all elements of the bundle; the results are in their order."""
        calls, self._calls = self._calls, []
        done: list[Any] = []
        for notes, results in in_order(self._call, calls, self._threads, lambda: None):
            for note in notes:
                note()
            done += map(GlobalWindows.windowed_value, results)
        return done

    def _call(self, arguments: tuple[Any, ...]) -> tuple[list[Any], Iterable[Any]]:
        with noted_later() as notes:
            return notes, super().process(*arguments)


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
            | "Spread" >> _Spread(self._crew)
            | "Take" >> beam.Map(lambda index: Item(shipped, index))
        )

    def _all(self) -> beam.ParDo:
        """Pairs of lane and index. No runner but the embedded one gets a list of them."""
        indices, lanes = range(len(self._values)), self._crew.processes
        if lanes is None:
            return beam.FlatMap(lambda _: enumerate(indices))
        pairs = assign_lanes(indices, lambda i: self._work(self._values[i]), lanes)
        return beam.FlatMap(lambda _: pairs)


class _Deal(beam.PTransform):
    """See `Crew.deal`."""

    def __init__(self, crew: Crew, work: Callable[[Any], int], in_order: bool) -> None:
        super().__init__()
        self._crew, self._work = crew, work
        self._assign = _lanes_in_order if in_order else assign_lanes

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        return (
            input_or_inputs
            | "Lanes" >> beam.FlatMap(self._assign, self._work, self._crew.processes)
            | "Spread" >> _Spread(self._crew)
        )


class _Spread(beam.PTransform):
    """(lane, element) -> element: one worker does what is in a lane.

    The embedded runner gives every worker one bundle per stage, whatever the bundles cost. With one
    lane per worker the caller decides which worker does what. Other runners deal the elements out
    themselves, and a single worker gets all of them.
    """

    def __init__(self, crew: Crew) -> None:
        super().__init__()
        self._crew = crew

    def expand(self, input_or_inputs: Any) -> Any:
        """See the class."""
        crew = self._crew
        if crew.processes == 1:
            return input_or_inputs | beam.Values()
        if crew.processes is None and crew.of_beam:
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


def _lanes_in_order(
    units: Sequence[T], work: Callable[[T], int], lanes: int | None
) -> list[tuple[int, T]]:
    """As `assign_lanes`, with the units in their own order."""
    assigned = assign_lanes(range(len(units)), lambda i: work(units[i]), lanes)
    return [(lane, units[i]) for lane, i in sorted(assigned, key=itemgetter(1))]
