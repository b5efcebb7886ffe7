"""The time that is left: known late rather than wrong, and without jumps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.pace import KNOWN_SECONDS, KNOWN_STEPS, RECENT_SECONDS, Pace


def paced(*steps: tuple[float, int]) -> Pace:
    pace = Pace()
    for now, done in steps:
        pace.note(now, done)
    return pace


def test_the_speed_is_unknown_before_three_steps_and_ten_seconds():
    assert paced().rate is None
    assert paced((0, 0), (20, 5), (40, 10)).rate is None
    assert paced((0, 0), (1, 5), (2, 10), (3, 15)).rate is None
    known = paced((0, 0), (4, 5), (8, 10), (12, 15))
    assert known.rate == pytest.approx(15 / 12)
    assert known.left(12, 30) == pytest.approx(12)
    assert (KNOWN_STEPS, KNOWN_SECONDS) == (3, 10)


def test_what_was_done_before_has_no_speed():
    begun = paced((0, 1000), (4, 1001), (8, 1002), (12, 1003))
    assert begun.rate == pytest.approx(0.25)


def test_work_that_begins_again_is_measured_anew():
    pace = paced((0, 0), (5, 10), (10, 20), (15, 30))
    pace.note(16, 0)
    assert pace.rate is None
    for now, done in ((20, 1), (24, 2), (28, 3)):
        pace.note(now, done)
    assert pace.rate == pytest.approx(3 / 12)


def test_what_stands_still_does_not_come_to_its_end():
    pace = paced(*((10 * i, i) for i in range(8)))
    assert pace.left(70, 27) == pytest.approx(200)
    assert pace.left(75, 27) == pytest.approx(195)
    for now in (80, 500, 5000):
        pace.note(now, 7)
        assert pace.left(now, 27) == pytest.approx(190)


def test_a_new_speed_counts_after_a_minute():
    pace = paced(*((i, i) for i in range(200)))
    for i in range(1, 62):
        pace.note(199 + i, 199 + 3 * i)
    assert pace.rate == pytest.approx(3, rel=0.05)
    assert RECENT_SECONDS == 60


def test_nothing_is_left_of_what_is_done():
    pace = paced((0, 0), (5, 10), (10, 20), (15, 30))
    assert pace.left(15, 30) == 0
    assert pace.left(99, 30) == 0


@given(
    gap=st.floats(0.5, 40),
    size=st.integers(1, 10**7),
    steps=st.integers(20, 120),
    shifts=st.lists(st.floats(-0.2, 0.2), min_size=120, max_size=120),
)
def test_the_time_left_runs_down_without_jumps(gap, size, steps, shifts):
    """Steps of one size at nearly even times: what is shown is near the truth, at every look."""
    pace, taken, total = Pace(), 0, size * steps
    times = [gap * (i + shifts[i]) if i else 0.0 for i in range(steps)]
    ends = gap * steps
    for tick in range(4 * steps):
        now = tick * gap / 4
        while taken < steps and times[taken] <= now:
            pace.note(times[taken], taken * size)
            taken += 1
        left = pace.left(now, total)
        if left is not None:
            assert abs(left - (ends - now)) <= 0.25 * (ends - now) + 1.5 * gap
