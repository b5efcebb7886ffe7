"""What came of a study: its runs compared by stage, and the verdicts on what was registered."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xxhash

from ..comparison.endpoints import Figure, means_by_run
from ..comparison.evaluated import ItemsKey, Probed
from ..comparison.intervals import half_width
from ..comparison.recorded import read_recorded
from ..comparison.runs import Comparison, compare
from .asked import asked_probes, facts_of
from .config import Primary, Study
from .graph import Cell
from .plan import Candidate, Plan, RecordOf, candidate_steps, lacking_bases
from .records import Record
from .registration import changed_since
from .verdicts import Measured, Verdict, by_base, differences_of, verdicts_of

__all__ = ["Failure", "OfBase", "Results", "StageResults", "results_of"]

FORMAT = "exactcpt study results"
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A step that was not done.

    Attributes:
        step: its name.
        reason: why it failed, or which step it would have needed.
    """

    step: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class OfBase:
    """A difference on one base.

    Attributes:
        context: of the probe.
        figure: "far", "near" or "slope".
        arm: that is compared with the baseline.
        base: seed of the base.
        delta: mean of the differences.
        over_seeds: half the width of its 95% interval; None with one seed.
    """

    context: str
    figure: str
    arm: str
    base: int
    delta: float
    over_seeds: float | None


@dataclass(frozen=True, kw_only=True)
class StageResults:
    """The runs of one stage, compared.

    Attributes:
        stage: its name.
        pairs: number of pairs that the study has.
        compared: names of the pairs in which all arms were trained, those without a single run
            left out; all means are over these.
        comparison: None if fewer than two arms have a pair in common with the baseline.
        by_base: summaries by base, for each length; empty with fewer than two bases.
    """

    stage: str
    pairs: int
    compared: list[str]
    comparison: Comparison | None
    by_base: dict[int, list[OfBase]]


@dataclass(frozen=True, kw_only=True)
class Results:
    """What came of a study.

    Attributes:
        study: what was studied.
        sha256: of the file, when it was registered.
        changed: sections of the file that have changed since, among those that may.
        candidates: for bases; None without a base.
        failures: steps that were not done.
        verdicts: on what was registered.
        stages: those whose runs were evaluated.
    """

    study: Study
    sha256: str
    changed: list[str]
    candidates: Sequence[Candidate] | None
    failures: list[Failure]
    verdicts: list[Verdict]
    stages: list[StageResults]

    @property
    def lacking_bases(self) -> int:
        """How many bases fewer there are than wanted."""
        return lacking_bases(self.study, self.candidates)

    @property
    def is_whole(self) -> bool:
        """Whether everything that was planned was done.

        A candidate for a base that failed leaves it incomplete only if there are too few bases.
        """
        tried = {step.name for step in candidate_steps(self.study, self.candidates)}
        missed = [failure for failure in self.failures if failure.step not in tried]
        return not missed and not self.lacking_bases

    def to_json(self) -> dict[str, Any]:
        """All of it as values that JSON can hold; it names no folder and no time."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": self.study.name,
            "registered": self.sha256,
            "changed": self.changed,
            "differs": [*self.study.differs],
            "baseline": self.study.baseline,
            "floor": self.study.floor,
            "arms": [*self.study.arms],
            "bases": None if self.candidates is None else [asdict(c) for c in self.candidates],
            "failed": [asdict(failure) for failure in self.failures],
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "stages": [_stage_json(stage) for stage in self.stages],
        }


def _stage_json(stage: StageResults) -> dict[str, Any]:
    found = stage.comparison
    return {
        "stage": stage.stage,
        "pairs": stage.pairs,
        "compared": stage.compared,
        "paired": found is not None and found.is_paired,
        "skipped": {} if found is None else found.skipped_by_arm,
        "evaluations": [] if found is None else [asdict(each) for each in found.probed],
        "losses": [] if found is None else [asdict(each) for each in found.losses],
        "by_base": {length: [asdict(each) for each in of] for length, of in stage.by_base.items()},
    }


def results_of(
    study: Study, plan: Plan, record_of: RecordOf, folder: Path, registered: Mapping[str, Any]
) -> Results:
    """Compares the runs of a study.

    Args:
        study: the study.
        plan: its steps.
        record_of: finds the record of a step.
        folder: of the study.
        registered: what was registered.

    Raises:
        FormatError: a run or an evaluation is damaged.
    """
    done = [cell for cell in plan.cells if (found := record_of(cell.step)) and found.is_done]
    trained_on = _trained_on(study, done, folder)
    probes = {
        cell.step.place: _OfRun(
            _probed(study, folder / cell.step.makes, record_of(cell.step)),
            " ".join(trained_on[cell.step.makes]),
        )
        for cell in done
        if cell.stage in study.evaluated
    }
    return Results(
        study=study,
        sha256=registered["sha256"],
        changed=changed_since(study, registered),
        candidates=plan.candidates,
        failures=_failures(plan, record_of),
        verdicts=verdicts_of(
            study.primaries,
            {each: _values(each, done, probes) for each in study.primaries},
            study.baseline,
            study.floor,
        ),
        stages=[_stage(study, plan, stage, done, probes, folder) for stage in study.evaluated],
    )


def _failures(plan: Plan, record_of: RecordOf) -> list[Failure]:
    """The steps that are not done, each with what kept it."""
    found: list[Failure] = []
    for step in plan.steps:
        record = record_of(step)
        if record is None:
            kept = {failure.step for failure in found}.intersection(step.needs)
            found.append(Failure(step=step.name, reason=f"needs {', '.join(sorted(kept))}"))
        elif record.reason is not None:
            found.append(Failure(step=step.name, reason=record.reason))
    return found


@dataclass(frozen=True)
class _OfRun:
    """What the probe found of a run, and digests of the windows of its stages since its base."""

    probed: Mapping[ItemsKey, Probed]
    windows: str


Probes = Mapping[str, _OfRun]
"""Place of a cell -> what its run is known by."""
ByFigure = dict[Figure, dict[str, dict[str, Measured]]]
"""Figure -> arm -> pair -> what was measured."""


def _probed(study: Study, run: Path, record: Record | None) -> Mapping[ItemsKey, Probed]:
    return asked_probes(study, run, record and record.evaluations)


def _trained_on(study: Study, done: Sequence[Cell], folder: Path) -> dict[str, list[str]]:
    """Run -> digests of the windows of its stages since its base; each log is read once."""
    found: dict[str, list[str]] = {}
    for cell in done:  # each after the one whose run it started from
        assert cell.step.training is not None
        before = found.get(cell.step.training["init_from"], [])
        run = folder / cell.step.makes
        # The run of an earlier stage may have been removed, to free the disk.
        is_gone = cell.stage not in study.evaluated and not run.exists()
        found[cell.step.makes] = before if is_gone else [*before, _windows(run)]
    return found


def _windows(run: Path) -> str:
    """A digest of the windows of a training, step by step."""
    steps = read_recorded(run).steps
    seen = json.dumps([[step, steps[step]["digest"]] for step in sorted(steps)])
    return xxhash.xxh3_128_hexdigest(seen.encode())


def _values(primary: Primary, done: Sequence[Cell], probes: Probes) -> ByFigure:
    """The figures at the stage and length of a primary endpoint."""
    cells = [cell for cell in done if cell.stage == primary.stage]
    keys = [key for key in _shared(cells, probes) if primary.length in (None, key[0])]
    return _by_figure(cells, probes, keys[0]) if keys else {}


def _shared(cells: Sequence[Cell], probes: Probes) -> list[ItemsKey]:
    """The items that were put to the runs of all cells; of one length, those with most facts."""
    each = [probes[cell.step.place].probed for cell in cells]
    shared = set.intersection(*map(set, each)) if each else set[ItemsKey]()

    def order(key: ItemsKey) -> tuple[int, int, ItemsKey]:
        return key[0], -facts_of(each[0][key]), key

    return sorted(shared, key=order)


def _by_figure(cells: Sequence[Cell], probes: Probes, key: ItemsKey) -> ByFigure:
    found: ByFigure = {}
    for cell in cells:
        run = probes[cell.step.place]
        for figure, values in means_by_run({cell.arm: [run.probed]}, key).items():
            of_arm = found.setdefault(figure, {}).setdefault(cell.arm, {})
            of_arm[cell.pair.name] = Measured(
                value=values[cell.arm][0], windows=run.windows, base=cell.pair.base
            )
    return found


def _stage(
    study: Study, plan: Plan, stage: str, done: Sequence[Cell], probes: Probes, folder: Path
) -> StageResults:
    cells = [cell for cell in done if cell.stage == stage]
    pairs = dict.fromkeys(cell.pair for cell in plan.cells if cell.stage == stage)
    trained: dict[str, set[str]] = {}
    for cell in cells:
        trained.setdefault(cell.arm, set()).add(cell.pair.name)
    compared = set.intersection(*trained.values()) if trained else set[str]()
    cells = [cell for cell in cells if cell.pair.name in compared]
    has_baseline = study.baseline in trained and len(trained) > 1
    comparison = (
        compare(
            [str(folder / cell.step.makes) for cell in cells],
            study.baseline,
            floor=study.floor,
            wanted={name for arm in study.arms.values() for name in arm.settings},
        )
        if compared and has_baseline
        else None
    )
    return StageResults(
        stage=stage,
        pairs=len(pairs),
        compared=[pair.name for pair in pairs if pair.name in compared],
        comparison=comparison,
        by_base={
            key[0]: _by_base(study.baseline, _by_figure(cells, probes, key))
            for key in reversed(_shared(cells, probes))
        }
        if comparison is not None
        else {},
    )


def _by_base(baseline: str, found: ByFigure) -> list[OfBase]:
    """The differences of the summaries on each base, if there are several."""
    return [
        _of_base(figure, arm, base, differences)
        for figure, arms in found.items()
        if figure[2] is None
        for arm in arms
        if arm != baseline
        for base, differences in by_base(
            differences_of(arms, arm, baseline), arms[baseline]
        ).items()
    ]


def _of_base(figure: Figure, arm: str, base: int, differences: Sequence[float]) -> OfBase:
    context, name, _ = figure
    return OfBase(
        context=context,
        figure=name,
        arm=arm,
        base=base,
        delta=statistics.mean(differences),
        over_seeds=half_width(differences),
    )
