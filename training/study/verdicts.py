"""What the registered endpoints say: supported, contradicted or undecided.

A difference d is taken pair by pair, and tested by Student's t over the pairs. With p adjusted by
Holm over all claims that something is greater:

    greater      supported     p < 0.05, d > 0, and d is above the noise floor
                 contradicted  p < 0.05, d < 0, and -d is above the noise floor
    equivalent   supported     the 90% interval of d lies within the margin (two one-sided tests)
                 contradicted  the 95% interval of d lies outside of the margin

Everything else is undecided; so is a claim that something is greater if there is an arm for the
noise floor that was not measured. One pair is no verdict.
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
from .config import Claim, Context, Primary

__all__ = ["LEVEL", "Outcome", "Verdict", "verdicts_of"]

Outcome = Literal["supported", "contradicted", "undecided", "no verdict"]
LEVEL = 0.05
SUITE = "probe."

Values = Mapping[Figure, Mapping[str, Mapping[str, float]]]
"""Figure -> arm -> pair -> value."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found of one claim.

    Attributes:
        endpoint, arm, against, claim, stage, length, context, margin: as registered, but for one
            arm of `against`.
        pairs: number of pairs in which both arms were evaluated.
        difference: mean over the pairs, in nats; None without a pair.
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
    difference: float | None
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
    noise = None if floor is None else _differences(arms, floor, baseline)
    return _Claimed(
        primary,
        against,
        _differences(arms, primary.arm, against),
        abs(float(np.mean(noise))) if noise else None,
        lacks_floor=floor is not None and not noise,
    )


def _differences(
    arms: Mapping[str, Mapping[str, float]], arm: str, other: str
) -> tuple[float, ...]:
    """The differences of two arms in the pairs that both have."""
    ours, theirs = arms.get(arm, {}), arms.get(other, {})
    return tuple(ours[pair] - theirs[pair] for pair in ours if pair in theirs)


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
        difference=float(np.mean(found)) if found else None,
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
        return "no verdict", "no pair of runs has this figure"
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
