"""Runs of several arms that start from one checkpoint, or from several that they share."""

from typing import Any

import pytest
from recorded_runs import stage, text_of, write

from exactcpt.training.comparison.runs import compare


def test_several_bases_of_any_length(tmp_path):
    """Nothing that was before a start that arms share makes another arm of a run."""
    bases = {0: stage("uniform", seed=0, steps=9), 5: stage("uniform", seed=5, steps=18, step=18)}
    runs = [
        write(tmp_path / f"{w}{base}{seed}", w, seed=seed, earlier=earlier)
        for w in ("exact", "uniform")
        for base, earlier in bases.items()
        for seed in (0, 1)
    ]
    found = compare(runs)
    assert {arm: len(of) for arm, of in found.arms.items()} == {"exact": 4, "uniform": 4}
    assert found.is_paired
    assert found.seeds == [(0, 0), (0, 5), (1, 0), (1, 5)]
    assert set(found.settings) == {"seed", "weighting"}


def test_arms_that_parted_after_bases_of_any_length(tmp_path):
    def runs_of(w: str, base: int) -> str:
        bottom = stage("uniform", seed=base, steps=9 + base, step=9 + base)
        middle = stage(w, seed=1, earlier=bottom)
        return write(tmp_path / f"{w}{base}", w, earlier=middle)

    found = compare([runs_of(w, base) for w in ("exact", "uniform") for base in (0, 5)])
    assert [*found.arms] == ["exact", "uniform"]
    assert found.is_paired
    assert found.seeds == [(0, 1, 0), (0, 1, 5)]


def test_a_base_that_one_arm_alone_was_trained_from(tmp_path):
    """As when a run of the other arm has failed."""
    bases = [stage("uniform", seed=0), stage("uniform", seed=5, step=18)]
    runs = [
        write(tmp_path / "e0", "exact", earlier=bases[0]),
        write(tmp_path / "u0", earlier=bases[0]),
        write(tmp_path / "u5", earlier=bases[1]),
    ]
    found = compare(runs)
    assert {arm: len(of) for arm, of in found.arms.items()} == {"exact": 1, "uniform": 2}
    assert found.is_paired
    assert found.seeds == [(0, 0)]


def test_a_pair_with_two_starts_is_none(tmp_path):
    bases = [stage("uniform", seed=0), stage("uniform", seed=5)]
    other = stage("uniform", seed=5, steps=18, step=18)
    runs = [
        write(tmp_path / f"{w}{n}", w, earlier=other if (w, n) == ("exact", 1) else earlier)
        for w in ("exact", "uniform")
        for n, earlier in enumerate(bases)
    ]
    found = compare(runs)
    assert {arm: len(of) for arm, of in found.arms.items()} == {"exact": 2, "uniform": 2}
    assert [pair.same_start for pair in found.pairs] == [True, False]
    assert not found.is_paired
    assert "not paired: the weights that they start from differ" in text_of(found)


@pytest.mark.parametrize("same", [{}, {"seed": 3}])
def test_arms_of_two_stages_stay_arms(tmp_path, same: dict[str, Any]):
    """Each arm of the first stage is the start of two: it is part of what is compared."""
    runs = [
        write(tmp_path / f"{first}-{then}", then, earlier=stage(first, **same))
        for first in ("exact", "uniform")
        for then in ("matched", "uniform")
    ]
    found = compare(runs)
    assert [*found.arms] == ["matched", "uniform", "matched 2", "uniform 2"]
    assert found.is_paired
