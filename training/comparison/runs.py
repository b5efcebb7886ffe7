"""Runs side by side: whether they are pairs, and what the weighting did to the loss.

Runs that differ in nothing but the seed are one *arm*. One arm is the baseline (`uniform`, if there
is one), and every other arm is compared with it seed by seed: same windows in the same order from
the same weights, so the difference of their losses is the weighting's. With n >= 2 seeds in common
the mean difference d has the 95 % interval d +- t(n-1) s / sqrt(n) of Student's t over the paired
differences.

Losses are unweighted, overall and by effective context: of each evaluated set at the last step that
all runs have evaluated, and of the training windows over the last tenth of the common steps.

Settings are compared as they were, step by step, up to the last common step. So are those of the
runs from which the weights came (`init_from.NAME`): arms may have parted in an earlier stage, and
are pairs if they differ in their weighting alone there too. The seeds of a run are its own and
those of the runs before.
"""

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import FormatError, IncompleteError, UsageError
from ..config import PATHS
from ..run.log import LOG, read_log, read_run, stretches

__all__ = ["Comparison", "compare"]

TRAINING = "training windows"

PER_RUN = {"seed", "weighting", "weight_table"}
"""Settings in which the runs of a comparison differ: their seed, their arm."""

INCIDENTAL = {
    "micro_batch", "save_every", "keep", "export_every", "log_every", "tensorboard",
    "loader_workers", "check_shards", "peak_tflops", "eval_every", "eval_windows",
}  # fmt: skip
"""Settings that no figure depends on but for the order of additions; as the number of ranks.
What was measured is in the records of it."""

EARLIER = "init_from."

Seeds = tuple[int, ...]

T_95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""0.975 quantiles of Student's t with 1, 2, ... degrees of freedom; 1.96 beyond."""


@dataclass(frozen=True)
class Changed:
    """A setting that was changed when its run went on.

    Attributes:
        values: each with the first step that it held for.
    """

    values: tuple[tuple[int, Any], ...]

    def __str__(self) -> str:
        (_, first), *later = self.values
        return f"{first}" + "".join(f", from step {step:,} on {value}" for step, value in later)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its folder tells it.

    Attributes:
        path: its folder.
        recorded: its `identity`, `stretches` of settings, and `earlier`, the run it came from.
        buckets: as recorded.
        steps: record of each step.
        evals: of each evaluated set, the record of each step.
    """

    path: str
    recorded: dict[str, Any]
    buckets: list[dict[str, Any]]
    steps: dict[int, dict[str, Any]]
    evals: dict[str, dict[int, dict[str, Any]]]

    @property
    def seeds(self) -> Seeds:
        """Of the windows' order; its own, then that of the run it came from, and so on."""
        return tuple(run["stretches"][-1]["settings"]["seed"] for run in _lineage(self.recorded))

    @property
    def weighting(self) -> str:
        """Of its own targets."""
        return self.recorded["stretches"][-1]["settings"]["weighting"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Whether a run and the baseline of its seeds saw the same.

    Attributes:
        run, baseline: their folders.
        seeds: of both.
        steps: they have in common.
        first_difference: the first of those with another digest; None if all are equal.
    """

    run: str
    baseline: str
    seeds: Seeds
    steps: int
    first_difference: int | None


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A loss of an arm and its difference from the baseline's, means over seeds.

    Attributes:
        loss: of the arm.
        delta: loss minus the baseline's; below 0 the arm is better.
        interval: half the width of the 95 % interval; None with one seed.
    """

    loss: float
    delta: float
    interval: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of a table of losses.

    Attributes:
        contexts: smallest and largest effective context; None for all together.
        in_tail: whether the training set's tail has the bucket.
        targets: of the baseline's runs, on average.
        baseline: its loss.
        arms: of each other arm, by name.
    """

    contexts: tuple[int, int] | None
    in_tail: bool
    targets: int
    baseline: float
    arms: dict[str, Delta]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What one set of windows says.

    Attributes:
        name: of the set.
        first_step, step: the first and the last step at which it was measured.
        rows: all together first, then a row a bucket that has targets.
    """

    name: str
    first_step: int
    step: int
    rows: list[Row]

    @property
    def title(self) -> str:
        """What was measured, and when."""
        if self.first_step == self.step:
            return f"{self.name}, step {self.step:,}"
        return f"{self.name}, steps {self.first_step:,} to {self.step:,}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that `compare` shows.

    Attributes:
        baseline: name of the arm that others are compared with.
        arms: name -> folders of its runs.
        settings: name of a setting that differs -> the value of each run, by folder; `Changed`
            where a run had several.
        unwanted: those of them in which pairs should not differ.
        unlike: names of evaluated sets that are not the same windows in all runs, and have no
            losses therefore.
        unmeasured: names of evaluated sets that the compared runs have measured at no common
            step, and have no losses therefore.
        pairs: of runs with the baseline's.
        seeds: that all arms have, but for those that share none with the baseline. All means are
            over these.
        losses: by set.
        curves: arm -> [step, unweighted training loss], mean over seeds.
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
    curves: dict[str, list[tuple[int, float]]]

    @property
    def is_paired(self) -> bool:
        """Whether the arms differ in their weighting alone."""
        same = all(pair.first_difference is None for pair in self.pairs)
        return bool(self.pairs) and same and not self.unwanted and not self.unlike

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**asdict(self), "paired": self.is_paired}


def compare(paths: Sequence[str]) -> Comparison:
    """Compares two or more runs.

    Raises:
        UsageError: fewer than two runs, or two of one arm and seed.
        IncompleteError, FormatError: a folder that is no run, or one without a step.
    """
    if len(paths) < 2:
        raise UsageError("one run cannot be compared", expected="exactcpt compare RUN RUN...")
    runs = [_read(Path(path)) for path in paths]
    last = min(max(run.steps) for run in runs)
    settings = {run.path: _flat(run.recorded, last) for run in runs}
    arms = _arms(runs, settings)
    baseline = next((name for name in arms if name.startswith("uniform")), next(iter(arms)))
    others = {name: arms[name] for name in arms if name != baseline}
    differing = _differing(settings)
    seeds = _common_seeds(arms[baseline], others)
    compared = {
        name: {each: by_seed[each] for each in seeds}
        for name, by_seed in arms.items()
        if by_seed.keys() >= set(seeds)
    }
    unlike = _unlike(runs)
    losses = _losses(compared, baseline, unlike) if seeds else []
    shown = {each.name for each in losses}.union(unlike)
    return Comparison(
        baseline=baseline,
        arms={name: [run.path for run in by_seed.values()] for name, by_seed in arms.items()},
        settings=differing,
        unwanted=[name for name in differing if _base(name) not in PER_RUN | INCIDENTAL],
        unlike=unlike,
        unmeasured=sorted({name for run in runs for name in run.evals} - shown) if seeds else [],
        pairs=[
            _pair(run, arms[baseline][each])
            for by_seed in others.values()
            for each, run in by_seed.items()
            if each in arms[baseline]
        ],
        seeds=seeds,
        losses=losses,
        curves={
            name: _curve((compared[name] if seeds and name in compared else by_seed).values())
            for name, by_seed in arms.items()
        },
    )


def _read(path: Path) -> Run:
    """A run from its folder.

    Raises:
        FormatError: it is none, or its log is damaged.
        IncompleteError: it has taken no step.
    """
    recorded = read_run(path)
    records = read_log(path)
    steps = {record["step"]: record for record in records if record["kind"] == "step"}
    if not steps:
        raise IncompleteError("the run has taken no step yet", where=str(path))
    held = stretches(records)
    if not held:
        raise FormatError("the log does not say when the run began", where=str(path / LOG))
    evals: dict[str, dict[int, dict[str, Any]]] = {}
    for record in records:
        if record["kind"] == "eval":
            evals.setdefault(record["name"], {})[record["step"]] = record
    return Run(
        path=str(path),
        recorded={
            "identity": recorded["identity"],
            "stretches": held,
            "earlier": recorded["earlier"],
        },
        buckets=recorded["buckets"],
        steps=steps,
        evals=evals,
    )


def _lineage(recorded: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    """A run, the run it came from, and so on."""
    while recorded is not None:
        yield recorded
        recorded = recorded["earlier"]


def _arms(runs: Iterable[Run], settings: dict[str, dict[str, Any]]) -> dict[str, dict[Seeds, Run]]:
    """Name -> seeds -> run."""
    keys: dict[str, list[Run]] = {}
    for run in runs:
        key = {n: v for n, v in settings[run.path].items() if _base(n) not in {"seed"} | INCIDENTAL}
        keys.setdefault(json.dumps(key, sort_keys=True, default=asdict), []).append(run)
    arms: dict[str, dict[Seeds, Run]] = {}
    for members in keys.values():
        name = members[0].weighting
        while name in arms:
            name = f"{name.partition(' ')[0]} {int(name.partition(' ')[2] or 1) + 1}"
        arms[name] = {}
        for run in members:
            if run.seeds in arms[name]:
                raise UsageError(
                    f"two runs have the same settings and seed {run.seeds[0]}",
                    where=f"{arms[name][run.seeds].path}, {run.path}",
                    fix="name each run once",
                )
            arms[name][run.seeds] = run
    return arms


def _flat(recorded: dict[str, Any], last: int) -> dict[str, Any]:
    """The settings of a run up to a step, and of the runs it came from; inputs by what they are."""
    held = [stretch for stretch in recorded["stretches"] if stretch["after"] < last]
    names = {name for stretch in held for name in stretch["settings"]}
    names -= {*PATHS, "eval"}
    flat = {name: _value(held, name) for name in names}
    flat |= {n: recorded["identity"].get(n) for n in ("shards", "model", "weight_table")}
    earlier = recorded["earlier"]
    if earlier is None:
        return flat | {f"{EARLIER}step": None}
    before = _flat(earlier, earlier["step"]) | {"step": earlier["step"]}
    return flat | {EARLIER + n: v for n, v in before.items() if _base(n) not in INCIDENTAL}


def _value(held: Iterable[dict[str, Any]], name: str) -> Any:
    """Of a setting, or all it had."""
    values: list[tuple[int, Any]] = []
    for stretch in held:
        value = stretch["settings"].get(name)
        if not values or values[-1][1] != value:
            values.append((stretch["after"] + 1, value))
    return values[0][1] if len(values) == 1 else Changed(tuple(values))


def _base(name: str) -> str:
    """A setting's name without saying whose it is."""
    return name.rpartition(".")[2]


def _differing(settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    each = list(settings.values())
    names = {name for flat in each for name in flat}
    # Where one run came from another and the next did not, that is all there is to say.
    names = {n for n in names if EARLIER not in n or all(n in flat for flat in each)} | {
        n for n in names if n.endswith(f"{EARLIER}step")
    }
    return {
        name: {path: flat.get(name) for path, flat in settings.items()}
        for name in sorted(names)
        if any(flat.get(name) != each[0].get(name) for flat in each)
    }


def _pair(run: Run, baseline: Run) -> Pair:
    common = sorted(run.steps.keys() & baseline.steps.keys())
    different = (s for s in common if run.steps[s]["digest"] != baseline.steps[s]["digest"])
    return Pair(
        run=run.path,
        baseline=baseline.path,
        seeds=run.seeds,
        steps=len(common),
        first_difference=next(different, None),
    )


def _common_seeds(baseline: dict[Seeds, Run], others: dict[str, dict[Seeds, Run]]) -> list[Seeds]:
    """Those of the baseline that every arm has, but for arms that have none of them."""
    shared = [runs.keys() & baseline.keys() for runs in others.values()]
    return sorted(set(baseline).intersection(*(seeds for seeds in shared if seeds)))


def _unlike(runs: Iterable[Run]) -> list[str]:
    """Names of evaluated sets that were not the same windows in all runs after some step."""
    seen: dict[tuple[str, int], set[Any]] = {}
    for run in runs:
        for name, records in run.evals.items():
            for step, record in records.items():
                seen.setdefault((name, step), set()).add(_measured(record))
    return sorted({name for (name, _), sets in seen.items() if len(sets) > 1})


def _measured(record: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies the windows of an evaluation."""
    counts = tuple(record["bucket_targets"])
    return record.get("shards"), record.get("window"), record.get("windows"), counts


def _losses(arms: dict[str, dict[Seeds, Run]], name: str, unlike: Sequence[str]) -> list[Losses]:
    """Of arms that have the same seeds; `name` is the baseline's."""
    baseline = arms[name]
    others = {arm: runs for arm, runs in arms.items() if arm != name}
    everyone = [run for runs in arms.values() for run in runs.values()]
    found: list[Losses] = []
    for evaluated in baseline[next(iter(baseline))].evals:
        if evaluated in unlike:
            continue
        steps = set.intersection(*(set(run.evals.get(evaluated, {})) for run in everyone))
        if steps:
            step = max(steps)
            records = {run.path: run.evals[evaluated][step] for run in everyone}
            found.append(_table(evaluated, (step, step), records, baseline, others))
    common = sorted(set.intersection(*(set(run.steps) for run in everyone)))
    # Of windows of other lengths the buckets are others; the shards are named as different.
    if common and len({len(run.buckets) for run in everyone}) == 1:
        last = common[-max(1, len(common) // 10) :]
        records = {run.path: _added(run.steps[step] for step in last) for run in everyone}
        found.append(_table(TRAINING, (last[0], last[-1]), records, baseline, others))
    return found


def _added(records: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The losses of some steps as one record."""
    ce: list[float] = []
    targets: list[int] = []
    for record in records:
        counts = record["bucket_targets"]
        ce = ce or [0.0] * len(counts)
        targets = targets or [0] * len(counts)
        for b, (loss, n) in enumerate(zip(record["bucket_loss"], counts, strict=True)):
            ce[b] += (loss or 0.0) * n
            targets[b] += n
    return {
        "bucket_loss": [c / n if n else None for c, n in zip(ce, targets, strict=True)],
        "bucket_targets": targets,
    }


def _table(
    name: str,
    steps: tuple[int, int],
    records: dict[str, dict[str, Any]],
    baseline: dict[Seeds, Run],
    others: dict[str, dict[Seeds, Run]],
) -> Losses:
    first = next(iter(baseline.values()))
    buckets = len(records[first.path]["bucket_targets"])
    window = records[first.path].get("window", first.buckets[-1]["high"] + 1)
    tail = first.buckets
    rows: list[Row] = []
    for b in (None, *range(buckets)):
        values = {path: _loss(record, b) for path, record in records.items()}
        if any(values[run.path] is None for run in baseline.values()):
            continue
        deltas = {
            arm: delta
            for arm, runs in others.items()
            if (delta := _delta(runs, baseline, values)) is not None
        }
        ours = [values[run.path] or 0.0 for run in baseline.values()]
        counts = [_targets(records[run.path], b) for run in baseline.values()]
        rows.append(
            Row(
                contexts=None if b is None else _contexts(b, window),
                in_tail=b is not None and b < len(tail) and tail[b]["in_tail"],
                targets=round(statistics.mean(counts)),
                baseline=statistics.mean(ours),
                arms=deltas,
            )
        )
    return Losses(name=name, first_step=steps[0], step=steps[1], rows=rows)


def _targets(record: dict[str, Any], bucket: int | None) -> int:
    counts = record["bucket_targets"]
    return sum(counts) if bucket is None else counts[bucket]


def _loss(record: dict[str, Any], bucket: int | None) -> float | None:
    """Of one bucket, or of all together."""
    if bucket is not None:
        return record["bucket_loss"][bucket]
    counts = record["bucket_targets"]
    ce = sum((x or 0.0) * n for x, n in zip(record["bucket_loss"], counts, strict=True))
    return ce / sum(counts) if sum(counts) else None


def _contexts(bucket: int, window: int) -> tuple[int, int]:
    """The effective contexts of a bucket: 0 to 7, 8 to 15, 16 to 31, ..."""
    low = 0 if bucket == 0 else 4 << bucket
    return low, min((8 << bucket) - 1, window - 1)


def _delta(
    runs: dict[Seeds, Run], baseline: dict[Seeds, Run], values: dict[str, float | None]
) -> Delta | None:
    losses = [values[run.path] for run in runs.values()]
    differences = [
        ours - theirs
        for seeds, run in runs.items()
        if seeds in baseline
        and (ours := values[run.path]) is not None
        and (theirs := values[baseline[seeds].path]) is not None
    ]
    if not differences:
        return None
    n = len(differences)
    interval = None
    if n > 1:
        t = T_95[n - 2] if n - 2 < len(T_95) else 1.96
        interval = t * statistics.stdev(differences) / math.sqrt(n)
    return Delta(
        loss=statistics.mean(loss for loss in losses if loss is not None),
        delta=statistics.mean(differences),
        interval=interval,
    )


def _curve(runs: Iterable[Run]) -> list[tuple[int, float]]:
    runs = list(runs)
    common = sorted(set.intersection(*(set(run.steps) for run in runs)))
    curve: list[tuple[int, float]] = []
    for step in common:
        losses = [run.steps[step]["unweighted_loss"] for run in runs]
        if None not in losses:
            curve.append((step, statistics.mean(losses)))
    return curve
