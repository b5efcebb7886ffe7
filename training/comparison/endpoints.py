"""The probe's figures, arm against baseline.

The same items were put to all runs, so a difference is taken fact by fact and seed by seed before
anything is averaged. With g the gain of the evidence in nats, and d its distance from the answer:

    gain       g at one distance
    far, near  the mean of g over d >= tau, over d < tau
    slope      least-squares slope of g on log2 d: nats per doubling of the distance

All endpoints are exploratory, except those that the user names as primary.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from .evaluated import Gains, ItemsKey, Probed
from .intervals import (
    bootstrap_items,
    bootstrap_seeds_and_items,
    detectable_difference,
    half_width,
    is_equivalent,
    p_value,
    seeds_needed,
)

__all__ = [
    "PRIMARY_CONTEXT",
    "SUMMARIES",
    "Endpoint",
    "Evaluation",
    "Figure",
    "Finding",
    "ProbedArm",
    "evaluations_of",
    "findings",
    "floor_of",
    "means_by_run",
]

SUMMARIES = ("far", "near", "slope")
PRIMARY_CONTEXT = "fixed"
"""The prompts of one length: the context in which endpoints can be primary."""
MARGINS = {"near": 0.05}
"""How far from 0 an endpoint may be, in nats, and still count as unchanged."""
SEEDS_FOR_BOTH = 5
"""With fewer seeds, an interval over seeds and items is too narrow to be shown."""

Values = NDArray[np.float64]
ProbedArm = Sequence[Mapping[ItemsKey, Probed]]
"""What the probe found of each run of an arm, in the order of the seeds, the same for all arms."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An arm at one endpoint, against the baseline.

    Attributes:
        value: mean of the arm over seeds and facts.
        delta: mean of its paired differences from the baseline.
        over_seeds: half the width of the 95% interval of `delta` over seeds; None with one seed.
        over_items: 95% interval of `delta` over facts, with these seeds.
        over_both: 95% interval over seeds and facts; None with fewer than five seeds.
        p: two-sided, of Student's test over seeds; None with one seed.
        adjusted: p after Holm's correction over all primary endpoints and arms; None for an
            exploratory endpoint, or with one seed.
        equivalent: whether `delta` is equivalent to 0; None with one seed, or without a margin.
        detectable: true difference that these seeds find with 80% power; None with one seed.
        seeds_for_half: number of seeds that find half of that; None with one seed.
    """

    value: float
    delta: float
    over_seeds: float | None
    over_items: tuple[float, float]
    over_both: tuple[float, float] | None
    p: float | None
    adjusted: float | None
    equivalent: bool | None
    detectable: float | None
    seeds_for_half: int | None


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One figure of all arms.

    Attributes:
        name: "gain", or one of `SUMMARIES`.
        context: "fixed", "minimal" or "document".
        distance: between evidence and answer, in tokens; None for summaries.
        primary: whether it was named before; all others are exploratory.
        facts: number of facts.
        baseline: mean of the baseline over seeds and facts.
        floor: how far an arm is from the baseline that differs from it in the scale of the loss
            alone: a smaller difference is not a finding. None without such an arm.
        arms: name of another arm -> what was found.
    """

    name: str
    context: str
    distance: int | None
    primary: bool
    facts: int
    baseline: float
    floor: float | None
    arms: dict[str, Finding]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The same items, put to all runs.

    Attributes:
        length: of the prompts with their answers, in tokens.
        ablation: what replaced the evidence.
        tau: smallest effective context of the tail; None if unknown, then there is no far and near.
        extrapolated: whether the prompts are longer than the windows of the training.
        seeds: number of seeds.
        endpoints: its figures: of each context the summaries, then the gain at each distance.
    """

    length: int
    ablation: str
    tau: int | None
    extrapolated: bool
    seeds: int
    endpoints: list[Endpoint]


def evaluations_of(
    arms: Mapping[str, ProbedArm],
    baseline: str,
    *,
    floor: str | None = None,
    primary: Collection[str] = (),
) -> list[Evaluation]:
    """The probe's figures for all items that were put to all runs.

    Args:
        arms: name -> what was found of its runs.
        baseline: name of the arm that others are compared with.
        floor: name of the arm that differs from it in the scale of the loss alone.
        primary: the endpoints that were named before the runs were trained, of `SUMMARIES`.
    """
    runs = [run for arm in arms.values() for run in arm]
    shared = set.intersection(*(set(run) for run in runs)) if runs else set()
    return [_evaluation(arms, baseline, floor, primary, key) for key in sorted(shared)]


Figure = tuple[str, str, int | None]
"""A context, the name of an endpoint, and its distance; see `Endpoint`."""


def means_by_run(
    arms: Mapping[str, ProbedArm], key: ItemsKey
) -> dict[Figure, dict[str, list[float]]]:
    """Every figure of every run, as means over the facts.

    Args:
        arms: name -> what was found of its runs.
        key: of items that were put to all of them.

    Returns:
        Figure -> arm -> its value for each run.
    """
    first = next(iter(arms.values()))[0][key]
    found: dict[Figure, dict[str, list[float]]] = {}
    for context in first.gains:
        for figure in _figures(first.gains[context], first.tau):
            values = {
                name: figure.of_runs([run[key].gains[context] for run in arm])
                for name, arm in arms.items()
            }
            if all(each.size for each in values.values()):
                found[context, figure.name, figure.distance] = {
                    name: each.mean(axis=1).tolist() for name, each in values.items()
                }
    return found


def _evaluation(
    arms: Mapping[str, ProbedArm],
    baseline: str,
    floor: str | None,
    primary: Collection[str],
    key: ItemsKey,
) -> Evaluation:
    length, ablation, _ = key
    first = arms[baseline][0][key]
    endpoints: list[Endpoint] = []
    for context in first.gains:
        gains = {name: [run[key].gains[context] for run in arm] for name, arm in arms.items()}
        for figure in _figures(gains[baseline][0], first.tau):
            values = {name: figure.of_runs(runs) for name, runs in gains.items()}
            named = context == PRIMARY_CONTEXT and figure.name in {*primary} & {*SUMMARIES}
            if values[baseline].size:
                endpoints.append(
                    Endpoint(
                        name=figure.name,
                        context=context,
                        distance=figure.distance,
                        primary=named,
                        facts=values[baseline].shape[1],
                        baseline=float(values[baseline].mean()),
                        floor=floor_of(values, baseline, floor),
                        arms=findings(values, baseline, MARGINS.get(figure.name)),
                    )
                )
    return Evaluation(
        length=length,
        ablation=ablation,
        tau=first.tau,
        extrapolated=first.extrapolated,
        seeds=len(arms[baseline]),
        endpoints=endpoints,
    )


@dataclass(frozen=True)
class _Figure:
    """A figure of the probe.

    Attributes:
        name, distance: as in `Endpoint`.
        of_facts: from gains [facts, distances] to one value per fact, NaN where a fact has none.
    """

    name: str
    distance: int | None
    of_facts: Callable[[Values], Values]

    def of_runs(self, runs: Sequence[Gains]) -> Values:
        """The values of the facts that have one, shape [runs, facts]."""
        values = np.stack([self.of_facts(run.values) for run in runs])
        return values[:, ~np.isnan(values[0])]


def _figures(gains: Gains, tau: int | None) -> Iterator[_Figure]:
    """Yields the figures that gains with these distances have."""
    if tau is not None:
        for name, chosen in (("far", gains.exact >= tau), ("near", gains.exact < tau)):
            if chosen.any():
                yield _Figure(name, None, partial(_mean, chosen=chosen))
    if len(gains.distances) > 1:
        yield _Figure("slope", None, partial(_slope, octaves=np.log2(gains.exact)))
    for column, distance in enumerate(gains.distances.tolist()):
        yield _Figure("gain", distance, partial(np.take, indices=column, axis=1))


def _mean(gains: Values, chosen: NDArray[np.bool_]) -> Values:
    """Mean of the chosen gains that a fact has; both have the shape [facts, distances]."""
    has = chosen & ~np.isnan(gains)
    total = np.where(has, gains, 0).sum(axis=1)
    return np.divide(total, has.sum(axis=1), out=np.full(len(gains), np.nan), where=has.any(axis=1))


def _slope(gains: Values, octaves: Values) -> Values:
    """Least-squares slope of each fact's gains on log2 of their distances, in the same shape."""
    has = ~np.isnan(gains)
    count = np.maximum(1, has.sum(axis=1, keepdims=True))
    mean = np.where(has, octaves, 0).sum(axis=1, keepdims=True) / count
    centered = np.where(has, octaves - mean, 0)
    spread = (centered**2).sum(axis=1)
    together = (centered * np.where(has, gains, 0)).sum(axis=1)
    return np.divide(together, spread, out=np.full(len(gains), np.nan), where=spread > 0)


def floor_of(values: Mapping[str, Values], baseline: str, floor: str | None) -> float | None:
    """How far the arm `floor` is from the baseline; None without such an arm."""
    if floor is None or floor not in values:
        return None
    return abs(float((values[floor] - values[baseline]).mean()))


def findings(
    values: Mapping[str, Values], baseline: str, margin: float | None
) -> dict[str, Finding]:
    """Every other arm against the baseline; the values of an arm have the shape [seeds, facts]."""
    ours = values[baseline]
    return {
        arm: _finding(theirs, theirs - ours, margin)
        for arm, theirs in values.items()
        if arm != baseline
    }


def _finding(values: Values, differences: Values, margin: float | None) -> Finding:
    by_seed = differences.mean(axis=1).tolist()
    both = len(by_seed) >= SEEDS_FOR_BOTH
    detectable = detectable_difference(by_seed)
    return Finding(
        value=float(values.mean()),
        delta=float(differences.mean()),
        over_seeds=half_width(by_seed),
        over_items=bootstrap_items(differences),
        over_both=bootstrap_seeds_and_items(differences) if both else None,
        p=p_value(by_seed),
        adjusted=None,
        equivalent=None if margin is None else is_equivalent(by_seed, margin),
        detectable=detectable,
        seeds_for_half=None if detectable is None else seeds_needed(by_seed, detectable / 2),
    )
