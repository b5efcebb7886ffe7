"""The steps of a study and what each of them needs.

    prepare:MAKES            makes something that the trainings need
    base:SEED                trains a candidate for a base and evaluates it
    base:SEED:2              trains it on, to twice its plan, because it did not pass the gate
    ARM:PAIR:STAGE           trains an arm and evaluates it

A pair is what the arms that are compared with each other have in common: a seed, or BASE.SEED, the
seed of the base and that of the stage.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .commands import EVALUATE, Command, evaluate_command, train_command
from .config import Stage, Study
from .places import RUNS

__all__ = ["BASE", "Cell", "Pair", "Step", "base_step", "cells_of", "pairs_of", "prepare_steps"]

BASE = "base"
"""The kind of the steps that train a candidate for a base."""

PLANNED = ("steps", "max_tokens")
"""The settings that say how long a training is."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One or more commands, one after the other.

    Attributes:
        name: of the step, for `--only`.
        place: of its record, its log and its run.
        kind: steps of one kind take about as long.
        commands: as they are run in the study's folder.
        needs: names of the steps that must be done before.
        makes: the file or folder that is there when it is done.
        training: the settings of its training; None if it trains nothing.
    """

    name: str
    place: str
    kind: str
    commands: tuple[Command, ...]
    needs: tuple[str, ...]
    makes: str
    training: Mapping[str, Any] | None = None

    @property
    def is_evaluated(self) -> bool:
        """Whether what it makes is a run that it also evaluates."""
        return any(command[0] == EVALUATE for command in self.commands)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What arms that are compared have in common.

    Attributes:
        base: seed of the base; None without one.
        seed: of the stages.
    """

    base: int | None
    seed: int

    @property
    def name(self) -> str:
        """In names of steps and folders."""
        return str(self.seed) if self.base is None else f"{self.base}.{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A training of one arm in one pair and stage, and its step."""

    arm: str
    pair: Pair
    stage: str
    step: Step


def prepare_steps(study: Study) -> list[Step]:
    """The steps that make what is trained on, each after the one before."""
    steps: list[Step] = []
    for each in study.prepare:
        steps.append(
            Step(
                name=f"prepare:{each.makes}",
                place=f"prepare/{each.makes}",
                kind=f"prepare:{each.makes}",
                commands=each.run,
                needs=tuple(step.name for step in steps[-1:]),
                makes=each.makes,
            )
        )
    return steps


def base_step(study: Study, seed: int, times: int) -> Step:
    """The step that trains a candidate for a base to some times its plan."""
    assert study.base is not None
    place = f"base/{seed}"
    run = f"{RUNS}/{place}"
    planned = {n: study.base.settings[n] * times for n in PLANNED if n in study.base.settings}
    settings = {**study.base.settings, **planned, "out": run, "seed": seed, "arm": "base"}
    before = _base_name(seed, times - 1) if times > 1 else _prepared(study)
    return Step(
        name=_base_name(seed, times),
        place=place if times == 1 else f"{place}-{times}",
        kind=BASE,
        commands=(train_command(settings), evaluate_command([run], study.evaluate)),
        needs=tuple(filter(None, [before])),
        makes=run,
        training=settings,
    )


def _base_name(seed: int, times: int) -> str:
    return f"base:{seed}" if times == 1 else f"base:{seed}:{times}"


def _prepared(study: Study) -> str | None:
    """The last step that makes something."""
    return f"prepare:{study.prepare[-1].makes}" if study.prepare else None


def pairs_of(study: Study, bases: Mapping[int, int] | None) -> Iterator[Pair]:
    """Yields the pairs.

    Args:
        study: the study.
        bases: seed of each base -> how many times its plan it was trained; None without a base.
    """
    for base in [None] if bases is None else bases:
        yield from (Pair(base=base, seed=seed) for seed in study.seeds)


def cells_of(study: Study, bases: Mapping[int, int] | None) -> Iterator[Cell]:
    """Yields the cells, by stage and pair; arms that others take norms from come first.

    Args:
        study: the study.
        bases: as in `pairs_of`.
    """
    arms = sorted(study.arms.values(), key=lambda arm: arm.grad_norm_from is not None)
    for stage in study.stages:
        for pair in pairs_of(study, bases):
            times = 1 if bases is None or pair.base is None else bases[pair.base]
            for arm in arms:
                step = _cell_step(study, stage, pair, arm.name, times)
                yield Cell(arm=arm.name, pair=pair, stage=stage.name, step=step)


def _cell_step(study: Study, stage: Stage, pair: Pair, arm: str, times: int) -> Step:
    run = f"{RUNS}/{_place(stage.name, pair, arm)}"
    start, needs = _start(study, stage, pair, arm, times)
    settings = stage.settings_of(study.arms[arm])
    norms = study.arms[arm].grad_norm_from
    if norms is not None and not stage.is_alike:
        settings["grad_norm_from"] = f"{RUNS}/{_place(stage.name, pair, norms)}"
        needs = (*needs, _name(norms, pair, stage.name))
    settings |= {"init_from": start, "out": run, "seed": pair.seed, "arm": arm}
    commands = [train_command(settings)]
    if stage.name in study.evaluated:
        commands.append(evaluate_command([run], study.evaluate))
    return Step(
        name=_name(arm, pair, stage.name),
        place=_place(stage.name, pair, arm),
        kind=stage.name,
        commands=tuple(commands),
        needs=needs,
        makes=run,
        training=settings,
    )


def _start(
    study: Study, stage: Stage, pair: Pair, arm: str, times: int
) -> tuple[str | None, tuple[str, ...]]:
    """The run that a cell starts from, and the step that trains it."""
    if stage.start is not None:
        return f"{RUNS}/{_place(stage.start, pair, arm)}", (_name(arm, pair, stage.start),)
    if pair.base is not None:
        return f"{RUNS}/base/{pair.base}", (_base_name(pair.base, times),)
    return None, tuple(filter(None, [_prepared(study)]))


def _name(arm: str, pair: Pair, stage: str) -> str:
    return f"{arm}:{pair.name}:{stage}"


def _place(stage: str, pair: Pair, arm: str) -> str:
    return f"{stage}/{pair.name}/{arm}"
