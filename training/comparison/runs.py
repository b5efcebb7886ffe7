"""Runs compared: whether they are pairs, and what the weighting did to the loss.

Runs that differ only in the seed form one *arm*, named by the user or by its weighting. One arm is
the baseline (the first whose weights are all 1, if the user names none), and every other arm is
compared with it seed by seed. Such a pair of runs has the same windows in the same order and starts
with the same weights, so the difference of their losses is due to the weighting. With n >= 2 common
seeds, the mean difference d has the 95% interval d +- t(n-1) s / sqrt(n) of Student's t over the
paired differences.

Losses are unweighted, over all targets and by effective context. Those on an eval set are from the
last step after which all runs were evaluated, those on the training windows from the last tenth of
the common steps.

Settings are compared as they were, step by step, up to the last common step. So are the settings of
the runs that the weights came from (`init_from.NAME`): arms may have parted in an earlier stage,
and are pairs if they differ only in the weighting there too. Nothing before a start that arms have
in common is compared; see `starts`. The seeds of a run are its own and those of these earlier runs.
"""

import json
import shlex
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, TypeVar

from ...schemas.errors import UsageError
from .endpoints import Evaluation, evaluations_of
from .evaluated import read_probed
from .losses import Losses, losses_of, unlike_sets
from .primary import adjusted, check_primary
from .recorded import Arm, RecordedRun, Seeds, read_recorded
from .ruler_endpoints import RulerEvaluation, ruler_evaluations
from .ruler_scores import RULER, read_ruler
from .settings import arm_key, differing, settings_until, unwanted
from .standard_endpoints import (
    STANDARD,
    StandardEndpoint,
    read_standard,
    standard_endpoints,
)
from .starts import common_start, start_of

__all__ = ["Comparison", "Pair", "compare"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Whether a run and the baseline's run of the same seeds saw the same windows.

    Attributes:
        run, baseline: folders of the two runs.
        seeds: the seeds of both.
        steps: number of steps that both have taken.
        first_difference: the first of these steps whose digests differ; None if all are equal.
        same_start: whether they started from the same weights, where arms have a start in common.
    """

    run: str
    baseline: str
    seeds: Seeds
    steps: int
    first_difference: int | None
    same_start: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that `compare` shows.

    Attributes:
        baseline: name of the arm that the others are compared with.
        arms: name of an arm -> folders of its runs.
        settings: name of a setting that differs -> folder of a run -> its value, or a `Changed`
            with several values.
        unwanted: names of the settings among them in which pairs must not differ.
        unlike: names of eval sets that were not the same windows in all runs; they have no losses.
        unmeasured: names of eval sets on which the compared runs were not evaluated after a common
            step; they have no losses.
        pairs: each run of another arm with the baseline's run of the same seeds.
        seeds: the seeds that all arms have, not counting arms that share none with the baseline.
            All means are over these.
        losses: one entry per set of windows.
        skipped: folder of a run -> the steps that it skipped, because a loss or the gradient was
            not finite; runs that skipped none are left out.
        curves: name of an arm -> pairs of a step and the mean unweighted training loss.
        probed: what `exactcpt evaluate` found with the probe, for items that were put to all runs.
        ruler: the same of the suites `ruler`, `latent` and `nolima`.
        standard: the same of the suite `standard`: its tasks, and the mean of the six.
        unprobed: folders of compared runs that lack some items of others, which are left out.
    """

    baseline: str
    arms: dict[str, list[str]]
    settings: dict[str, dict[str, Any]]
    unwanted: list[str]
    unlike: list[str]
    unmeasured: list[str]
    pairs: list[Pair]
    seeds: list[Seeds]
    losses: list[Losses]
    skipped: dict[str, list[int]]
    curves: dict[str, list[tuple[int, float]]]
    probed: list[Evaluation]
    ruler: list[RulerEvaluation]
    standard: list[StandardEndpoint]
    unprobed: list[str]

    @property
    def is_paired(self) -> bool:
        """Whether the arms differ only in their weighting."""
        same = all(pair.first_difference is None and pair.same_start for pair in self.pairs)
        return bool(self.pairs) and same and not self.unwanted and not self.unlike

    @property
    def skipped_by_arm(self) -> dict[str, int]:
        """Number of steps that the runs of an arm skipped, for those that skipped some."""
        counts = {
            arm: sum(len(self.skipped.get(path, ())) for path in paths)
            for arm, paths in self.arms.items()
        }
        return {arm: count for arm, count in counts.items() if count}

    def to_json(self) -> dict[str, Any]:
        """All fields and `paired`, as values that JSON can hold."""
        return {**asdict(self), "paired": self.is_paired}


def compare(
    paths: Sequence[str],
    baseline: str | None = None,
    primary: Collection[str] = (),
    floor: str | None = None,
    wanted: Collection[str] = (),
) -> Comparison:
    """Compares two or more runs.

    Args:
        paths: their folders.
        baseline: name of the arm that the others are compared with; None for the first whose
            targets all have weight 1, or for the first of all.
        primary: endpoints of the probe that were named before the runs were trained, "ruler", or
            "standard".
        floor: name of the arm that shows how large a difference without a cause is; None for the
            first with the weighting `matched`.
        wanted: names of settings in which arms differ on purpose, besides the weighting.

    Raises:
        UsageError: there are fewer than two runs, two with the same arm and seed, none of the
            baseline, or no endpoint of a name in `primary`.
        IncompleteError, FormatError: a folder is not a run, or the run has taken no step.
    """
    if len(paths) < 2:
        raise UsageError(
            "there is only one run to compare", expected="two or more: exactcpt compare RUN RUN..."
        )
    runs = [read_recorded(Path(path)) for path in paths]
    last = min(max(run.steps) for run in runs)
    own = common_start(runs, last)
    settings = {run.path: settings_until(run, last, own) for run in runs}
    arms = _arms(runs, settings)
    baseline = _baseline(arms, baseline)
    seeds = _common_seeds(arms, baseline)
    compared = _with_seeds(arms, seeds)
    unlike = unlike_sets(runs)
    losses = losses_of(compared, baseline, unlike)
    different = differing(settings)
    probes = _read_each(compared, read_probed)
    rulers = _read_each(compared, read_ruler)
    standards = _read_each(compared, read_standard)
    floor = floor or _floor(compared)
    probed = evaluations_of(probes, baseline, floor=floor, primary=primary)
    ruler = ruler_evaluations(rulers, baseline, floor=floor, primary=RULER in primary)
    standard = standard_endpoints(standards, baseline, floor=floor, primary=STANDARD in primary)
    check_primary(primary, probed, ruler, standard)
    probed, ruler, standard = adjusted(probed, ruler, standard)
    return Comparison(
        baseline=baseline,
        arms={name: [run.path for run in arm.values()] for name, arm in arms.items()},
        settings=different,
        unwanted=unwanted(different, wanted),
        unlike=unlike,
        unmeasured=_unmeasured(runs, losses, unlike) if seeds else [],
        pairs=_pairs(arms, baseline, own),
        seeds=seeds,
        losses=losses,
        skipped={run.path: run.skipped for run in runs if run.skipped},
        curves={name: _curve(compared.get(name, arm)) for name, arm in arms.items()},
        probed=probed,
        ruler=ruler,
        standard=standard,
        unprobed=_unprobed(compared, probes, rulers, standards),
    )


def _read_each(arms: dict[str, Arm], read: Callable[[Path], T]) -> dict[str, list[T]]:
    """What a suite has found of each run, by arm."""
    return {name: [read(Path(run.path)) for run in arm.values()] for name, arm in arms.items()}


def _floor(arms: dict[str, Arm]) -> str | None:
    """The name of the arm that shows how large a difference without a cause is."""
    return next((n for n, arm in arms.items() if all(r.is_floor for r in arm.values())), None)


def _unprobed(arms: dict[str, Arm], *found: Mapping[str, Sequence[Mapping[Any, Any]]]) -> list[str]:
    """Folders of the runs to which some items of other runs were not put."""
    by_run: dict[str, set[Any]] = {}
    for suite in found:
        for name, arm in arms.items():
            for run, keys in zip(arm.values(), suite[name], strict=True):
                by_run.setdefault(run.path, set()).update(keys)
    every = set[Any]().union(*by_run.values())
    return [path for path, keys in by_run.items() if keys != every]


def _arms(runs: Iterable[RecordedRun], settings: dict[str, dict[str, Any]]) -> dict[str, Arm]:
    """Name -> the runs that differ in nothing but the seed."""
    members: dict[str, list[RecordedRun]] = {}
    for run in runs:
        key = json.dumps(arm_key(settings[run.path]), sort_keys=True, default=asdict)
        members.setdefault(key, []).append(run)
    arms: dict[str, Arm] = {}
    for alike in members.values():
        arms[_free(alike[0].name, arms)] = _by_seeds(alike)
    return arms


def _free(name: str, taken: Collection[str]) -> str:
    """The name, with a number if other arms have it too."""
    numbered = (f"{name} {n}" for n in count(2))
    return next(each for each in chain([name], numbered) if each not in taken)


def _by_seeds(runs: Iterable[RecordedRun]) -> Arm:
    arm: Arm = {}
    for run in runs:
        if run.seeds in arm:
            raise UsageError(
                f"two runs have the same settings and seed {run.seeds[0]}",
                where=f"{arm[run.seeds].path}, {run.path}",
                fix="name each run once",
            )
        arm[run.seeds] = run
    return arm


def _baseline(arms: dict[str, Arm], wanted: str | None) -> str:
    """The name of the arm that others are compared with."""
    if wanted is None:
        plain = (name for name, arm in arms.items() if all(r.is_plain for r in arm.values()))
        return next(plain, next(iter(arms)))
    if wanted not in arms:
        raise UsageError(
            f"no run is of the arm {wanted!r}",
            expected=f"--baseline {' or '.join(shlex.quote(name) for name in arms)}",
        )
    return wanted


def _common_seeds(arms: dict[str, Arm], baseline: str) -> list[Seeds]:
    """The baseline's seeds that every arm has, not counting arms that share none with it."""
    ours = arms[baseline].keys()
    shared = [arm.keys() & ours for name, arm in arms.items() if name != baseline]
    return sorted(set(ours).intersection(*(seeds for seeds in shared if seeds)))


def _with_seeds(arms: dict[str, Arm], seeds: Sequence[Seeds]) -> dict[str, Arm]:
    """The arms that have all of the seeds, with only these; no arm if there are no seeds."""
    return {
        name: {each: arm[each] for each in seeds}
        for name, arm in arms.items()
        if seeds and arm.keys() >= set(seeds)
    }


def _unmeasured(
    runs: Iterable[RecordedRun], losses: Iterable[Losses], unlike: Iterable[str]
) -> list[str]:
    """Names of eval sets that have no losses, except the unlike ones."""
    told = {each.name for each in losses}.union(unlike)
    return sorted({name for run in runs for name in run.evals} - told)


def _pairs(arms: dict[str, Arm], baseline: str, own: int | None) -> list[Pair]:
    """Each run of another arm with the baseline's run of the same seeds, if there is one."""
    return [
        _pair(run, arms[baseline][seeds], own)
        for name, arm in arms.items()
        for seeds, run in arm.items()
        if name != baseline and seeds in arms[baseline]
    ]


def _pair(run: RecordedRun, baseline: RecordedRun, own: int | None) -> Pair:
    common = sorted(run.steps.keys() & baseline.steps.keys())
    different = (s for s in common if run.steps[s]["digest"] != baseline.steps[s]["digest"])
    return Pair(
        run=run.path,
        baseline=baseline.path,
        seeds=run.seeds,
        steps=len(common),
        first_difference=next(different, None),
        same_start=own is None or start_of(run, own) == start_of(baseline, own),
    )


def _curve(arm: Arm) -> list[tuple[int, float]]:
    """The steps that all runs of an arm have taken, with their mean unweighted loss."""
    runs = list(arm.values())
    curve: list[tuple[int, float]] = []
    for step in sorted(set.intersection(*(set(run.steps) for run in runs))):
        losses = [run.steps[step]["unweighted_loss"] for run in runs]
        if None not in losses:
            curve.append((step, statistics.mean(losses)))
    return curve
