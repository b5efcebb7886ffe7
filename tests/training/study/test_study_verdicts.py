"""The verdicts on registered endpoints, against the rules worked out by hand."""

import statistics
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.training.comparison.intervals import student_quantile
from exactcpt.training.study.config import Primary
from exactcpt.training.study.verdicts import Measured, Verdict, verdicts_of


def primary(**changes) -> Primary:
    chosen = {
        "endpoint": "probe.far", "arm": "exact", "against": ("uniform",), "claim": "greater",
        "stage": "s", "length": None, "context": "fixed", "margin": None,
    }  # fmt: skip
    return Primary(**(chosen | changes))


def verdicts(
    *primaries: Primary,
    floor: str | None = None,
    windows: dict[str, str] | None = None,
    bases: Sequence[int | None] = (None,),
    **arms: list[float],
) -> list[Verdict]:
    """The verdicts for arms whose far and near are the same values, pair by pair.

    Args:
        primaries: the claims.
        floor: name of the arm that shows it.
        windows: arm -> one letter for each pair, for what its run was trained on.
        bases: of the pairs, over and over.
        arms: name -> value for each pair.
    """
    seen = dict.fromkeys(arms, "a" * 9) | (windows or {})
    by_pair = {
        arm: {
            str(i): Measured(value=value, windows=seen[arm][i], base=bases[i % len(bases)])
            for i, value in enumerate(values)
        }
        for arm, values in arms.items()
    }
    values = {("fixed", name, None): by_pair for name in ("far", "near")}
    return verdicts_of(primaries, dict.fromkeys(primaries, values), "uniform", floor)


ZERO = [0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("exact", "outcome"),
    [
        ([1.0, 1.1, 0.9, 1.0], "supported"),
        ([-1.0, -1.1, -0.9, -1.0], "contradicted"),
        ([1.0, -1.0, 2.0, 0.5], "undecided"),
        ([1.0], "no verdict"),
        ([], "no verdict"),
    ],
)
def test_greater(exact, outcome):
    (found,) = verdicts(primary(), uniform=ZERO, exact=exact)
    assert found.outcome == outcome
    assert found.pairs == len(exact)
    assert (found.difference is None) == (not exact)
    assert (found.p is None) == (len(exact) < 2)


def test_the_figures_of_a_verdict():
    differences = [1.0, 1.1, 0.9, 1.4]
    (found,) = verdicts(primary(), uniform=[5, 6, 7, 8.0], exact=[6, 7.1, 7.9, 9.4])
    error = statistics.stdev(differences) / 2
    assert found.difference == pytest.approx(1.1)
    assert found.half_width == pytest.approx(student_quantile(0.975, 3) * error)
    power = student_quantile(0.975, 3) + student_quantile(0.8, 3)
    assert found.detectable == pytest.approx(power * error)


def test_only_runs_that_saw_the_same_windows_are_a_pair():
    arms = {"uniform": ZERO, "exact": [1.0, 1.1, 0.9, 1.0]}
    (found,) = verdicts(primary(), windows={"exact": "bbbb"}, **arms)
    assert (found.outcome, found.why, found.pairs, found.unlike) == (
        "no verdict", "the two runs of each pair were trained on different windows", 0, 4,
    )  # fmt: skip
    (found,) = verdicts(primary(), windows={"exact": "aaba"}, **arms)
    assert (found.outcome, found.pairs, found.unlike) == ("supported", 3, 1)
    assert found.difference == pytest.approx((1.0 + 1.1 + 1.0) / 3)


def test_the_floor_is_of_runs_that_saw_the_same_windows():
    arms = {"uniform": ZERO, "exact": [1.0, 1.1, 0.9, 1.0], "matched": [3.0, -1.0, 2.0, 1.0]}
    (found,) = verdicts(primary(), floor="matched", windows={"matched": "baab"}, **arms)
    assert found.floor == pytest.approx(0.5)
    (found,) = verdicts(primary(), floor="matched", windows={"matched": "bbbb"}, **arms)
    assert found.why == "the noise floor was not measured"


def test_the_mean_on_each_base():
    arms = {"uniform": ZERO, "exact": [1.0, 2.0, 3.0, 4.0]}
    (found,) = verdicts(primary(), bases=(7, 9), **arms)
    assert found.by_base == pytest.approx({7: 2.0, 9: 3.0})
    for bases in ((None,), (7,)):
        (found,) = verdicts(primary(), bases=bases, **arms)
        assert found.by_base == {}


def test_below_the_floor_is_undecided():
    arms = {"uniform": ZERO, "exact": [1.0, 1.1, 0.9, 1.0], "matched": [3.0, -1.0, 2.0, 1.0]}
    (found,) = verdicts(primary(), floor="matched", **arms)
    assert found.floor == pytest.approx(1.25)
    assert (found.outcome, found.why) == (
        "undecided", "the difference is within the noise floor",
    )  # fmt: skip
    (found,) = verdicts(primary(), floor=None, **arms)
    assert found.outcome == "supported"


def test_a_floor_that_was_not_measured_supports_nothing():
    """An arm for the floor whose runs have all failed must not make a claim easier."""
    for exact in ([1.0, 1.1, 0.9, 1.0], [-1.0, -1.1, -0.9, -1.0]):
        (found,) = verdicts(primary(), floor="matched", uniform=ZERO, exact=exact)
        assert found.floor is None
        assert (found.outcome, found.why) == ("undecided", "the noise floor was not measured")


def test_holm_is_over_all_claims_that_something_is_greater():
    arms = {
        "uniform": ZERO,
        "near": [0.4, 0.1, 0.2, 0.3],
        "exact": [1.0, 1.4, 0.6, 1.2],
    }
    claims = (
        primary(against=("uniform", "near")),
        primary(endpoint="probe.near", claim="equivalent", margin=0.05),
        primary(arm="near"),
    )
    found = verdicts(*claims, **arms)
    assert [(each.arm, each.against) for each in found] == [
        ("exact", "uniform"), ("exact", "near"), ("exact", "uniform"), ("near", "uniform"),
    ]  # fmt: skip
    tested = [each for each in found if each.claim == "greater"]
    smallest = min(each.p for each in tested if each.p is not None)
    assert found[0].p == smallest
    assert found[0].adjusted == pytest.approx(3 * smallest)
    assert found[2].adjusted is None


def test_a_claim_that_holm_takes_back():
    exact = [1.0, 1.9, 0.4, 0.9]
    (alone,) = verdicts(primary(), uniform=ZERO, exact=exact)
    assert alone.p is not None
    assert 0.025 < alone.p < 0.05
    assert alone.outcome == "supported"
    both = verdicts(primary(), primary(arm="x"), uniform=ZERO, exact=exact, x=exact)
    assert [each.outcome for each in both] == ["undecided", "undecided"]


@pytest.mark.parametrize(
    ("exact", "outcome"),
    [
        ([0.01, -0.01, 0.0, 0.02], "supported"),
        ([0.5, 0.51, 0.49, 0.5], "contradicted"),
        ([-0.5, -0.51, -0.49, -0.5], "contradicted"),
        ([0.1, -0.1, 0.0, 0.05], "undecided"),
        ([0.2, 0.0, 0.1, 0.02], "undecided"),
        ([0.0], "no verdict"),
    ],
)
def test_equivalent(exact, outcome):
    claim = primary(endpoint="probe.near", claim="equivalent", margin=0.05)
    (found,) = verdicts(claim, uniform=ZERO, exact=exact)
    assert found.outcome == outcome
    assert found.adjusted is None


def test_pairs_that_one_arm_lacks_are_left_out():
    arms = {
        "uniform": {"a": 0.0, "b": 1.0, "c": 2.0},
        "exact": {"c": 5.0, "d": 9.0, "a": 4.0},
    }
    values = {
        arm: {pair: Measured(value=value, windows="w") for pair, value in pairs.items()}
        for arm, pairs in arms.items()
    }
    of = {primary(): {("fixed", "far", None): values}}
    (found,) = verdicts_of([primary()], of, "uniform", None)
    assert found.pairs == 2
    assert found.difference == pytest.approx(3.5)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_the_other_direction_is_the_other_verdict(exact):
    (there,) = verdicts(primary(), uniform=[0.0] * len(exact), exact=exact)
    (back,) = verdicts(
        primary(arm="uniform", against=("exact",)), uniform=[0.0] * len(exact), exact=exact
    )
    mirrored = {"supported": "contradicted", "contradicted": "supported"}
    assert back.outcome == mirrored.get(there.outcome, there.outcome)
