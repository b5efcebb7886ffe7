import threading
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing import test_pipeline
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.beam.transforms import Crew, SumHistograms, assign_lanes
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.attempt import attempt_at
from exactcpt.pipeline.job.halt import HaltedError

RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def counts(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_no_histograms_sum_to_nothing():
    combine = SumHistograms(16)
    assert combine.extract_output(combine.create_accumulator()).tolist() == [0, 0]
    assert combine.merge_accumulators([]).tolist() == [0, 0]


def test_a_sum_keeps_int64_and_its_inputs():
    combine = SumHistograms(16)
    one, other = counts(2**62, 1), counts(2**62 - 1, 0)
    total = combine.add_input(combine.add_input(combine.create_accumulator(), one), other)
    assert total.tolist() == [2**63 - 1, 1]
    assert total.dtype == np.int64
    assert one.tolist() == [2**62, 1]
    assert other.tolist() == [2**62 - 1, 0]


histograms = st.lists(st.tuples(*[st.integers(0, 2**50)] * 3), max_size=12)


@given(histograms, st.lists(st.integers(0, 3), min_size=12, max_size=12))
def test_the_grouping_does_not_matter(values, bundle_of):
    combine = SumHistograms(32)
    bundles = [combine.create_accumulator() for _ in range(4)]
    for value, bundle in zip(values, bundle_of, strict=False):
        bundles[bundle] = combine.add_input(bundles[bundle], counts(*value))
    merged = combine.merge_accumulators(
        [combine.merge_accumulators(bundles[:1]), combine.merge_accumulators(iter(bundles[1:]))]
    )
    expected = [sum(column) for column in zip(*values, strict=True)] or [0, 0, 0]
    assert combine.extract_output(merged).tolist() == expected


@pytest.mark.parametrize("values", [[], [(1, 2)], [(1, 2), (3, 4), (2**60, 0)]])
def test_histograms_in_a_pipeline(values):
    expected = [sum(column) for column in zip(*values, strict=True)] or [0, 0]
    with test_pipeline.TestPipeline(runner=RUNNER) as p:
        total = (
            p
            | beam.Create([counts(*value) for value in values])
            | beam.CombineGlobally(SumHistograms(16))
            | beam.Map(lambda histogram: histogram.tolist())
        )
        assert_that(total, equal_to([expected]))


# lanes


works = st.lists(st.integers(0, 1000), max_size=12)


@given(works, st.none() | st.integers(1, 5))
def test_every_unit_has_a_lane(values, lanes):
    units = list(enumerate(values))
    assigned = assign_lanes(units, lambda unit: unit[1], lanes)
    assert Counter(unit for _, unit in assigned) == Counter(units)
    if lanes is None:
        assert len({lane for lane, _ in assigned}) == len(units)
    else:
        assert all(0 <= lane < lanes for lane, _ in assigned)


def loads(assigned, lanes: int) -> list[int]:
    return [sum(max(1, unit) for lane, unit in assigned if lane == i) for i in range(lanes)]


@given(works, st.integers(1, 5))
def test_no_lane_has_more_than_its_share_and_one_unit(values, lanes):
    """Longest first: the last unit of the fullest lane found it below the mean."""
    most = max(loads(assign_lanes(values, lambda unit: unit, lanes), lanes))
    total = sum(max(1, value) for value in values)
    assert most <= total / lanes + max(values, default=0) + 1


@given(st.lists(st.integers(1, 30), max_size=6), st.integers(1, 3))
def test_the_fullest_lane_is_within_a_third_of_the_best(values, lanes):
    """Graham's bound for longest first: 4/3 - 1/(3m)."""
    most = max(loads(assign_lanes(values, lambda unit: unit, lanes), lanes))
    divisions = product(range(lanes), repeat=len(values))
    best = min(max(loads(list(zip(lane, values, strict=True)), lanes)) for lane in divisions)
    assert 3 * lanes * most <= (4 * lanes - 1) * best


def test_units_without_work_are_spread_too():
    assert Counter(lane for lane, _ in assign_lanes([0] * 6, lambda _: 0, 3)) == {0: 2, 1: 2, 2: 2}


def test_lanes_of_nothing():
    assert assign_lanes([], lambda _: 1, 3) == []
    assert assign_lanes([], lambda _: 1, None) == []


# crews


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path))


CREWS = {
    "an engine of Beam's": {},
    "another engine": {"of_beam": False},
    "one thread": {"processes": 1},
    "three threads": {"processes": 1, "threads": 3},
    "three processes": {"processes": 3},
}


@pytest.fixture(params=CREWS)
def crew(request: pytest.FixtureRequest, folder: Folder) -> Iterator[Crew]:
    with attempt_at(folder, engine=None) as attempt:
        yield Crew(attempt, **CREWS[request.param])


@pytest.mark.parametrize("units", [[], [f"unit {i}" for i in range(10)]])
def test_every_item_is_dealt_once(crew, units):
    with test_pipeline.TestPipeline(runner=RUNNER) as p:
        dealt = p | beam.Create([units]) | crew.deal(len)
        assert_that(dealt, equal_to(units))


def in_order_of(words: list[str]):
    def check(found: list[str]) -> None:
        assert found == words

    return check


@pytest.mark.parametrize(
    ("processes", "in_order", "expected"),
    [
        (1, True, ["a", "ccc", "bb", "dddd", "e"]),
        (2, True, ["a", "dddd", "e", "ccc", "bb"]),
        (1, False, ["dddd", "ccc", "bb", "a", "e"]),
        (2, False, ["dddd", "a", "e", "ccc", "bb"]),
    ],
)
def test_the_order_in_which_an_embedded_worker_does_its_items(
    folder, processes, in_order, expected
):
    with (
        attempt_at(folder, engine=None) as attempt,
        test_pipeline.TestPipeline(runner=RUNNER) as p,
    ):
        dealt = p | beam.Create([["a", "ccc", "bb", "dddd", "e"]])
        dealt = dealt | Crew(attempt, processes=processes).deal(len, in_order=in_order)
        assert_that(dealt, in_order_of(expected))


def test_the_size_of_a_crew(crew):
    size = crew.size
    assert size is None if crew.processes is None else size in (1, 3)


BARRIER = threading.Barrier(3)


def meet(unit: int) -> tuple[int, str]:
    """Returns when three units are there; whoever is alone fails."""
    BARRIER.wait(timeout=30)
    return unit, threading.current_thread().name


def all_of_three_threads(found: list[tuple[int, str]]) -> None:
    assert [unit for unit, _ in found] == [*range(6)]
    assert len({name for _, name in found}) == 3


def test_threads_do_units_at_the_same_time_and_results_stay_in_order(folder):
    with (
        attempt_at(folder, engine=None) as attempt,
        test_pipeline.TestPipeline(runner=RUNNER) as p,
    ):
        crew = Crew(attempt, processes=1, threads=3)
        met = p | crew.units([*range(6)], lambda unit: 10 - unit) | crew.work(meet)
        assert_that(met, all_of_three_threads)


def halting(unit: int, folder: str) -> None:
    if unit == 0:
        raise ValueError("this one fails")
    Folder(folder).write(f"done-{unit}", b"")


def test_when_a_unit_on_a_thread_fails_the_others_are_not_called(folder):
    with attempt_at(folder, engine=None) as attempt:
        crew, pipeline = Crew(attempt, processes=1, threads=2), beam.Pipeline(runner=RUNNER)
        _ = pipeline | crew.units([*range(200)], lambda unit: 1) | crew.work(halting, folder.url)
        with pytest.raises(Exception, match="this one fails"):
            pipeline.run()
    assert len([name for name in folder.names() if name.startswith("done-")]) < 100


def repeat(text: str, times: int) -> list[str]:
    return [text] * times


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.mark.parametrize("units", [[], ["a"], ["a", "bb", "ccc", "dddd"]])
def test_a_unit_gets_its_element_and_gives_a_result_or_several(crew, units):
    with test_pipeline.TestPipeline(runner=RUNNER) as p:
        elements = p | "Units" >> crew.units(units, len)
        each = elements | "Each" >> crew.work(repeat, 2)
        assert_that(each, equal_to([[unit] * 2 for unit in units]), "each")
        both = elements | "Both" >> crew.work(repeat, 2, many=True)
        assert_that(both, equal_to(units * 2), "both")


def test_units_get_what_was_shipped_and_side_inputs(crew):
    with test_pipeline.TestPipeline(runner=RUNNER) as p:
        words = p | beam.Create(["a", "b", "c"])
        times = beam.pvalue.AsSingleton(p | "Times" >> beam.Create([3]))
        shipped = words | "Shipped" >> crew.work(repeat, crew.ship(2))
        assert_that(shipped, equal_to([["a"] * 2, ["b"] * 2, ["c"] * 2]), "shipped")
        sides = words | "Sides" >> crew.work(repeat, times, many=True)
        assert_that(sides, equal_to(["a", "b", "c"] * 3), "sides")
        numbers = beam.pvalue.AsList(p | "Numbers" >> beam.Create([1, 2, 3]))
        named = beam.pvalue.AsDict(p | "Named" >> beam.Create([("a", 4), ("b", 5)]))
        summed = words | "Several" >> crew.work(add_up, numbers, named)
        assert_that(summed, equal_to(["a 15", "b 15", "c 15"]), "several")


def add_up(word: str, numbers: list[int], named: dict[str, int]) -> str:
    return f"{word} {sum(numbers) + sum(named.values())}"


def test_side_inputs_are_whole(crew):
    numbers = beam.pvalue.AsIter(beam.Pipeline() | beam.Create([1, 2, 3]))
    with pytest.raises(AssertionError):
        crew.work(repeat, numbers)


def test_a_unit_without_an_element_is_called_once(crew):
    with test_pipeline.TestPipeline(runner=RUNNER) as p:
        times = beam.pvalue.AsSingleton(p | "Times" >> beam.Create([3]))
        found = p | "Repeat" >> crew.once(repeat, crew.ship("a"), times)
        assert_that(found, equal_to([["a"] * 3]))


def test_units_are_guarded(folder):
    with attempt_at(folder, engine=None) as attempt:
        crew = Crew(attempt)
        work: Any = crew.work(fail).fn
        with pytest.raises(ValueError, match="one"):
            work.process("one")
        with pytest.raises(HaltedError):
            work.process("two")
    with attempt_at(folder, engine=None) as attempt, pytest.raises(Exception, match="one"):
        pipeline = beam.Pipeline(runner=RUNNER)
        _ = pipeline | Crew(attempt).once(fail, "one")
        pipeline.run()


def size_of_graph(folder: Folder, units: int) -> int:
    """Bytes of a pipeline as an engine gets it."""
    with attempt_at(folder, engine="AnEngine") as attempt:
        crew, pipeline = Crew(attempt), beam.Pipeline()
        numbers = range(units)
        _ = (
            pipeline
            | crew.units([f"unit {i}" for i in numbers], len)
            | crew.work(repeat, crew.ship([*numbers]))
        )
        return len(pipeline.to_runner_api().SerializeToString())


def test_the_graph_of_an_engine_does_not_grow_with_the_work(folder):
    small, large = size_of_graph(folder, 1), size_of_graph(folder, 100_000)
    assert abs(large - small) < 100 < small < 100_000


def test_a_runner_that_is_not_beam_s_gets_plain_transforms(folder):
    """The Spark runner that `make cluster` uses passes over those that it does not know."""
    with attempt_at(folder, engine="AnEngine") as attempt:
        crew, pipeline = Crew(attempt, of_beam=False), beam.Pipeline()
        elements = pipeline | "Units" >> crew.units(["a", "b"], len)
        _ = elements | "Each" >> crew.work(repeat, 2)
        _ = pipeline | "Once" >> crew.once(repeat, "a", 2)
        transforms = pipeline.to_runner_api().components.transforms.values()
    names = {urn: {t.unique_name for t in transforms if t.spec.urn == urn} for urn in SPECIAL}
    assert names == {SPECIAL[0]: {"Units/Start/Impulse", "Once/Start/Impulse"}, SPECIAL[1]: set()}


SPECIAL = ("beam:transform:impulse:v1", "beam:transform:reshuffle:v1")
"""What such a runner does not know: an impulse may only be a part of Create."""
