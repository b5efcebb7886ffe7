"""Units on threads: results and the first mistake are those of one thread."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.job import threads
from exactcpt.pipeline.job.threads import in_order


def nothing() -> None:
    pass


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 4), st.sets(st.integers(0, 19)))
def test_results_and_the_first_mistake_are_in_order(values, workers, wrong):
    def do(numbered: tuple[int, int]) -> int:
        place, value = numbered
        if place in wrong:
            raise ValueError(place)
        return value

    found: list[int] = []
    first = min((place for place in wrong if place < len(values)), default=None)
    if first is None:
        assert list(in_order(do, [*enumerate(values)], workers, nothing)) == values
        return
    with pytest.raises(ValueError, match=f"^{first}$"):
        found.extend(in_order(do, [*enumerate(values)], workers, nothing))


def test_a_later_mistake_that_comes_sooner_waits():
    late = threading.Event()

    def do(place: int) -> None:
        if place == 0:
            late.wait(10)
        else:
            late.set()
        raise ValueError(place)

    with pytest.raises(ValueError, match=r"^0$"):
        list(in_order(do, [0, 1], 2, nothing))


def test_who_waits_is_asked_meanwhile_and_may_end_it(monkeypatch):
    monkeypatch.setattr(threads, "POLL_SECONDS", 0.01)
    begun: list[int] = []
    end = threading.Event()

    def do(value: int) -> None:
        begun.append(value)
        end.wait(10)
        time.sleep(0.01)

    def poll() -> None:
        if begun:
            end.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(in_order(do, range(1000), 2, poll))
    assert len(begun) < 1000
