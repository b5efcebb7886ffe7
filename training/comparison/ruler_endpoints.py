"""The scores of `ruler`, `latent` and `nolima`, arm against baseline.

The same items were put to all runs, so a difference is taken item by item and seed by seed before
anything is averaged. All tasks have as many items, so a mean over items is one over tasks.

    trained         items of all lengths up to the windows of the training
    extrapolated    items of all longer ones
    length          items of one length
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.ruler.summary import MEASURES, score_name
from .endpoints import Finding, findings, floor_of
from .ruler_scores import RULER, RulerKey, RulerScores

__all__ = ["LENGTH", "RulerArm", "RulerEndpoint", "RulerEvaluation", "ruler_evaluations"]

TRAINED, EXTRAPOLATED, LENGTH = "trained", "extrapolated", "length"

PRIMARY_MEASURES = ("match", "loglik")
"""The first of these that all runs have is that of primary endpoints."""

RulerArm = Sequence[Mapping[RulerKey, RulerScores]]
"""What was found of each run of an arm, in the order of the seeds, the same for all arms."""


@dataclass(frozen=True, kw_only=True)
class RulerEndpoint:
    """One figure of all arms.

    Attributes:
        name: "trained", "extrapolated" or "length".
        lengths: of its prompts with their answers, in tokens.
        extrapolated: whether these are longer than the windows of the training.
        primary: whether it was named before; all others are exploratory.
        items: number of items.
        baseline: mean of the baseline over seeds and items.
        floor: how far an arm is from the baseline that differs from it in the scale of the loss
            alone: a smaller difference is not a finding. None without such an arm.
        arms: name of another arm -> what was found.
    """

    name: str
    lengths: list[int]
    extrapolated: bool
    primary: bool
    items: int
    baseline: float
    floor: float | None
    arms: dict[str, Finding]


@dataclass(frozen=True, kw_only=True)
class RulerEvaluation:
    """One measure of the same items, put to all runs.

    Attributes:
        suite: that made them.
        measure: "loglik" (nats per token), "choice" or "match" (shares).
        score: what the mean is called, such as "ruler-11"; None if one of the eleven tasks is
            missing or has no such measure.
        tasks: how many tasks have the measure.
        seeds: number of seeds.
        endpoints: its figures: trained and extrapolated lengths, then each length.
    """

    suite: str
    measure: str
    score: str | None
    tasks: int
    seeds: int
    endpoints: list[RulerEndpoint]


def ruler_evaluations(
    arms: Mapping[str, RulerArm], baseline: str, *, floor: str | None = None, primary: bool = False
) -> list[RulerEvaluation]:
    """The scores of all items that were put to all runs.

    Args:
        arms: name -> what was found of its runs.
        baseline: name of the arm that others are compared with.
        floor: name of the arm that differs from it in the scale of the loss alone.
        primary: whether the means over trained and over extrapolated lengths were named before the
            runs were trained.
    """
    runs = [run for arm in arms.values() for run in arm]
    shared = set.intersection(*(set(run) for run in runs)) if runs else set()
    found: list[RulerEvaluation] = []
    for series in sorted({key.series for key in shared}):
        having = {key.measure for key in shared if key.series == series}
        is_named = primary and series.suite == RULER
        named = next((m for m in PRIMARY_MEASURES if m in having), None) if is_named else None
        for measure in (each for each in reversed(MEASURES) if each in having):
            keys = sorted(key for key in shared if key[:2] == (series, measure))
            found.append(_evaluation(arms, baseline, floor, keys, named == measure))
    return found


def _evaluation(
    arms: Mapping[str, RulerArm],
    baseline: str,
    floor: str | None,
    keys: Sequence[RulerKey],
    primary: bool,
) -> RulerEvaluation:
    first = arms[baseline][0]
    endpoints: list[RulerEndpoint] = []
    for name, chosen in _figures(keys, first):
        values = {
            arm: np.stack([np.concatenate([run[key].values for key in chosen]) for run in runs])
            for arm, runs in arms.items()
        }
        endpoints.append(
            RulerEndpoint(
                name=name,
                lengths=[key.length for key in chosen],
                extrapolated=first[chosen[0]].extrapolated,
                primary=primary and name != LENGTH,
                items=values[baseline].shape[1],
                baseline=float(values[baseline].mean()),
                floor=floor_of(values, baseline, floor),
                arms=findings(values, baseline, None),
            )
        )
    series = keys[0].series
    tasks = endpoints[-1].items // series.per_task
    return RulerEvaluation(
        suite=series.suite,
        measure=keys[0].measure,
        score=score_name(series.tasks) if tasks == len(series.tasks) else None,
        tasks=tasks,
        seeds=len(arms[baseline]),
        endpoints=endpoints,
    )


def _figures(
    keys: Sequence[RulerKey], run: Mapping[RulerKey, RulerScores]
) -> Iterator[tuple[str, list[RulerKey]]]:
    """Yields the figures and the keys of their items."""
    for name, beyond in ((TRAINED, False), (EXTRAPOLATED, True)):
        chosen = [key for key in keys if run[key].extrapolated == beyond]
        if chosen:
            yield name, chosen
    yield from ((LENGTH, [key]) for key in keys)
