"""What the registered endpoints say: supported, contradicted or undecided.

A difference d is taken pair by pair, and tested by Student's t over the pairs. With p adjusted by
Holm over all claims that something is greater:

    greater      supported     p < 0.05, d > 0, and d is above the noise floor
                 contradicted  p < 0.05, d < 0, and -d is above the noise floor
    equivalent   supported     the 90% interval of d lies within the margin (two one-sided tests)
                 contradicted  the 95% interval of d lies outside of the margin

Everything else is undecided; so is a claim that something is greater if there is an arm for the
noise floor that was not measured. One pair is no verdict.

Only runs that saw the same windows, step by step, are a pair: otherwise a difference could come
from them. Pairs on several bases count alike; the mean on each base is told beside that of all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..comparison.endpoints import Figure
from ..comparison.intervals import (
    detectable_difference,
    half_width,
    holm,
    is_equivalent,
    p_value,
)
from ..evaluation.assemble import Context
from .config import Claim, Primary

__all__ = ["LEVEL", "Measured", "Outcome", "Verdict", "by_base", "differences_of", "verdicts_of"]

Outcome = Literal["supported", "contradicted", "undecided", "no verdict"]
LEVEL = 0.05
SUITE = "probe."


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A figure of one run.

    Attributes:
        value: in nats.
        windows: digest of what the run was trained on, step by step.
        base: seed of its base; None without one.
    """

    value: float
    windows: str
    base: int | None = None


Values = Mapping[Figure, Mapping[str, Mapping[str, Measured]]]
"""Figure -> arm -> pair -> what was measured."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one claim.

    Attributes:
        endpoint, arm, against, claim, stage, length, context, margin: as registered, but for one
            arm of `against`.
        pairs: number of pairs in which both arms were evaluated.
        unlike: number of pairs that do not count, because their two runs were trained on different
            windows.
        difference: mean over the pairs, in nats; None without a pair.
        by_base: seed of a base -> mean over its pairs; empty with fewer than two bases.
        half_width: half of its 95% interval; None with one pair.
        p: two-sided, of Student's test over the pairs; None with one pair.
        adjusted: p by Holm over all claims that something is greater; None for other claims.
        floor: the noise floor of the endpoint; None without an arm for it, or without its figure.
        detectable: true difference that so many pairs find with 80% power; None with one pair.
        outcome: the verdict.
        why: what kept it from being another one; None if nothing did.
    """

    endpoint: str
    arm: str
    against: str
    claim: Claim
    stage: str
    length: int | None
    context: Context
    margin: float | None
    pairs: int
    unlike: int
    difference: float | None
    by_base: Mapping[int, float]
    half_width: float | None
    p: float | None
    adjusted: float | None
    floor: float | None
    detectable: float | None
    outcome: Outcome
    why: str | None


@dataclass(frozen=True)
class _Claimed:
    primary: Primary
    against: str
    differences: Sequence[float]
    by_base: Mapping[int, float]
    unlike: int
    floor: float | None
    lacks_floor: bool

    @property
    def p(self) -> float | None:
        return p_value(self.differences)


def verdicts_of(
    primaries: Sequence[Primary],
    values_of: Mapping[Primary, Values],
    baseline: str,
    floor: str | None,
) -> list[Verdict]:
    """The verdicts on all claims, each against each of its arms.

    Args:
        primaries: as registered.
        values_of: primary -> what was measured with its items; no figures if nothing was.
        baseline: name of the arm that the floor differs from.
        floor: name of the arm that shows how large a difference without a cause is.
    """
    claimed = [
        _claimed(primary, against, values_of[primary], baseline, floor)
        for primary in primaries
        for against in primary.against
    ]
    tested = [each for each in claimed if each.primary.claim == "greater" and each.p is not None]
    adjusted = holm([each.p for each in tested if each.p is not None])
    return [
        _verdict(each, adjusted[tested.index(each)] if each in tested else None) for each in claimed
    ]


def _claimed(
    primary: Primary, against: str, values: Values, baseline: str, floor: str | None
) -> _Claimed:
    figure = (primary.context, primary.endpoint.removeprefix(SUITE), None)
    arms = values.get(figure, {})
    noise = () if floor is None else [*differences_of(arms, floor, baseline).values()]
    found = differences_of(arms, primary.arm, against)
    return _Claimed(
        primary,
        against,
        [*found.values()],
        by_base={
            base: float(np.mean(each))
            for base, each in by_base(found, arms.get(against, {})).items()
        },
        unlike=len({*arms.get(primary.arm, {})} & {*arms.get(against, {})}) - len(found),
        floor=abs(float(np.mean(noise))) if noise else None,
        lacks_floor=floor is not None and not noise,
    )


def differences_of(
    arms: Mapping[str, Mapping[str, Measured]], arm: str, other: str
) -> dict[str, float]:
    """Pair -> difference of two arms, where their runs were trained on the same windows."""
    ours, theirs = arms.get(arm, {}), arms.get(other, {})
    return {
        pair: run.value - theirs[pair].value
        for pair, run in ours.items()
        if pair in theirs and run.windows == theirs[pair].windows
    }


def by_base(
    differences: Mapping[str, float], runs: Mapping[str, Measured]
) -> dict[int, list[float]]:
    """Seed of a base -> the differences of its pairs; empty with fewer than two bases.

    Args:
        differences: by pair.
        runs: what was measured in each of these pairs, which says the base.
    """
    found: dict[int, list[float]] = {}
    for pair, difference in differences.items():
        base = runs[pair].base
        if base is not None:
            found.setdefault(base, []).append(difference)
    return found if len(found) > 1 else {}


def _verdict(claimed: _Claimed, adjusted: float | None) -> Verdict:
    primary, found = claimed.primary, claimed.differences
    outcome, why = _outcome(claimed, adjusted)
    return Verdict(
        endpoint=primary.endpoint,
        arm=primary.arm,
        against=claimed.against,
        claim=primary.claim,
        stage=primary.stage,
        length=primary.length,
        context=primary.context,
        margin=primary.margin,
        pairs=len(found),
        unlike=claimed.unlike,
        difference=float(np.mean(found)) if found else None,
        by_base=claimed.by_base,
        half_width=half_width(found),
        p=claimed.p,
        adjusted=adjusted,
        floor=claimed.floor,
        detectable=detectable_difference(found),
        outcome=outcome,
        why=why,
    )


def _outcome(claimed: _Claimed, adjusted: float | None) -> tuple[Outcome, str | None]:
    if not claimed.differences:
        unlike = "the two runs of each pair were trained on different windows"
        return "no verdict", unlike if claimed.unlike else "no pair of runs has this figure"
    if len(claimed.differences) == 1:
        return "no verdict", "one pair"
    mean = float(np.mean(claimed.differences))
    margin = claimed.primary.margin
    if margin is not None:
        return _of_equivalence(claimed.differences, mean, margin)
    if adjusted is None or adjusted >= LEVEL:
        return "undecided", f"p is not below {LEVEL}"
    if claimed.lacks_floor:
        return "undecided", "the noise floor was not measured"
    if claimed.floor is not None and abs(mean) <= claimed.floor:
        return "undecided", "the difference is within the noise floor"
    return ("supported" if mean > 0 else "contradicted"), None


def _of_equivalence(
    differences: Sequence[float], mean: float, margin: float
) -> tuple[Outcome, str | None]:
    if is_equivalent(differences, margin):
        return "supported", None
    half = half_width(differences)
    if half is not None and abs(mean) - half > margin:
        return "contradicted", None
    return "undecided", "the interval reaches beyond the margin"
