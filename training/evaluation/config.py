"""The settings of an evaluation, checked when they are made."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

from ...schemas.errors import UsageError
from ...schemas.settings import check_range
from ..config import Device, Precision

__all__ = [
    "ABLATIONS",
    "ANSWERED",
    "FACTORS",
    "FILES",
    "IN_HAYSTACK",
    "ITEMS",
    "RECALL",
    "SCORES",
    "SUITES",
    "TASKS",
    "Ablation",
    "EvaluateConfig",
    "Score",
    "Suite",
    "chosen_scores",
    "chosen_suites",
    "chosen_tasks",
    "is_world",
]

Suite = Literal["probe", "buckets", "ruler", "latent", "nolima", "standard"]
Ablation = Literal["replace", "swap", "remove"]
Score = Literal["loglik", "choice", "generate"]

SUITES: tuple[Suite, ...] = get_args(Suite)
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)
SCORES: tuple[Score, ...] = get_args(Score)

TASKS: dict[Suite, tuple[str, ...]] = {
    "probe": ("number", "place", "code", "alias", "natural"),
    "buckets": ("bucket", "gain-128", "gain-512", "gain-tau", "recurrence"),
    "ruler": (
        "niah_single_1", "niah_single_2", "niah_single_3",
        "niah_multikey_1", "niah_multikey_2", "niah_multikey_3",
        "niah_multivalue", "niah_multiquery", "vt", "cwe", "fwe", "qa_1", "qa_2",
    ),
    "latent": ("alone", "among"),
    "nolima": ("needle_set",),
    "standard": ("mmlu", "arc_challenge", "hellaswag", "winogrande", "piqa", "gsm8k"),
}  # fmt: skip
"""Suite -> its tasks. Of `OPEN` suites, they are what is evaluated by default."""

OPEN: tuple[Suite, ...] = ("standard", "nolima")
"""Suites that can have other tasks: lm-eval has many, and the data of NoLiMa other needle sets."""

ANSWERED: tuple[Suite, ...] = ("ruler", "latent", "nolima")
"""The suites whose answers are scored as `--score` says."""
IN_HAYSTACK: tuple[Suite, ...] = ("probe", "buckets", "ruler", "latent")
"""The suites that read a haystack."""

NAME = re.compile(r"\w[\w.-]*")
"""What a task of an open suite may be called."""

RECALL = "recall"
"""The only task of the probe where the haystack is a recall world."""
FILES = {"qa_1": "squad", "qa_2": "hotpotqa"}
"""Task -> the setting that names the file which it reads; without one, it is left out."""

ITEMS = 100
"""How many items are made where no number is given."""
SHORTEST, LONGEST = 128, 1 << 24
FACTORS = (1, 2, 4)
"""The lengths that are evaluated by default, in trained windows."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The settings of an evaluation.

    Attributes:
        models: runs, RUN@STEP for a checkpoint that is not the newest, or Hugging Face folders.
        suites: what to evaluate.
        tasks: suite -> its tasks.
        lengths: tokens of the longest prompts with their answers; None for the trained window,
            twice and four times it.
        items: of each task and length, or windows of the suite `buckets`; None for `ITEMS`, and for
            all that a task of `standard` has.
        haystack: a shard set, a text or JSON Lines file, or the world.json of a recall world; None
            for the shards of the first run.
        tokenizer: for items without a model; None for that of the haystack.
        seed: of the items.
        ablation: what stands in the place of the evidence in an ablated prompt.
        score: how the answers of the suite `ruler` are scored.
        squad: file of SQuAD 2.0 for the task `qa_1`; None without it.
        hotpotqa: file of HotpotQA for the task `qa_2`; None without it.
        nolima: folder with the data of NoLiMa for the suite `nolima`; None without it.
        data: folder with the items of the suite `standard`; None for those of the Hugging Face hub.
        shots: solved examples before each item of `standard`; None for what is usual for a task.
        batch_tokens: tokens in memory at once; None for what suits the device.
        precision: of weights and computation; None for what suits the device.
        device: where to compute.
        out: folder for the results; None for the folder `eval` of each run.
        items_only: whether to write the items and stop.
    """

    models: tuple[str, ...]
    suites: tuple[Suite, ...] = ("probe",)
    tasks: dict[Suite, tuple[str, ...]]
    lengths: tuple[int, ...] | None = None
    items: int | None = None
    haystack: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    ablation: Ablation = "replace"
    score: tuple[Score, ...] = ("loglik", "choice")
    squad: str | None = None
    hotpotqa: str | None = None
    nolima: str | None = None
    data: str | None = None
    shots: int | None = None
    batch_tokens: int | None = None
    precision: Precision | None = None
    device: Device = "auto"
    out: str | None = None
    items_only: bool = False

    def __post_init__(self) -> None:
        for length in self.lengths or ():
            check_range("lengths", length, SHORTEST, LONGEST)
        check_range("items", self.items, 1, 1 << 20)
        check_range("seed", self.seed, 0, (1 << 64) - 1)
        check_range("shots", self.shots, 0, 100)
        check_range("batch_tokens", self.batch_tokens, 1, 1 << 40)
        self._check_files()
        self._check_standard()
        if self.items_only:
            self._check_items_only()
        elif not self.models:
            raise UsageError(
                "no model is given", expected="exactcpt evaluate MODEL..., or --items-only"
            )
        elif self.tokenizer is not None:
            raise UsageError(
                "--tokenizer is for --items-only: a model has a tokenizer of its own",
                fix="leave out --tokenizer",
            )

    def _check_files(self) -> None:
        """Checks that the tasks of `FILES` are chosen where their files are given, and not else."""
        for task, name in FILES.items():
            given = getattr(self, name) is not None
            if given and task not in self.tasks.get("ruler", ()):
                raise UsageError(
                    f"--{name} is for the task {task} of the suite ruler, which is not evaluated",
                    fix=f"add ruler to --suite and {task} to --tasks, or leave out --{name}",
                )
            if not given and task in self.tasks.get("ruler", ()):
                raise UsageError(
                    f"the task {task} reads a file that exactcpt does not bring along",
                    expected=f"--{name} FILE",
                    fix=f"give the file, or --tasks without {task}",
                )

    def _check_standard(self) -> None:
        """Checks that settings of `nolima` and `standard` are given with these suites alone."""
        for name, suite in (("nolima", "nolima"), ("data", "standard"), ("shots", "standard")):
            if getattr(self, name) is not None and suite not in self.suites:
                raise UsageError(
                    f"--{name} is for the suite {suite}, which is not evaluated",
                    fix=f"add {suite} to --suite, or leave out --{name}",
                )

    @property
    def count(self) -> int:
        """How many items of each task are made, by the suites that make their own."""
        return ITEMS if self.items is None else self.items

    def _check_items_only(self) -> None:
        for suite in self.suites:
            if suite not in ("probe", "ruler", "latent"):
                raise UsageError(
                    f"--items-only writes items that exactcpt makes; {suite} has none",
                    expected="--suite with any of probe, ruler and latent",
                )
        if self.models or self.out is None or self.haystack is None:
            raise UsageError(
                "--items-only needs no model, but a haystack and a folder to write to",
                expected="exactcpt evaluate --items-only --haystack SHARDS --out DIR",
            )


def chosen_suites(text: str) -> tuple[Suite, ...]:
    """The suites of a list with commas, each once, in the order of `SUITES`.

    Raises:
        UsageError: there is no such suite.
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SUITES:
            raise UsageError(f"there is no suite {name!r}", expected=" or ".join(SUITES))
    return tuple(suite for suite in SUITES if suite in names)


def is_world(haystack: str | None) -> bool:
    """Whether a haystack is the world.json of a recall world, by its name."""
    return haystack is not None and "://" not in haystack and Path(haystack).suffix == ".json"


def chosen_scores(text: str | None, suites: Sequence[Suite]) -> tuple[Score, ...]:
    """The scores of a list with commas, each once, in the order of `SCORES`.

    Raises:
        UsageError: there is no such score, or no suite that takes one.
    """
    if text is None:
        return EvaluateConfig.score
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in SCORES:
            raise UsageError(f"there is no score {name!r}", expected=" or ".join(SCORES))
    if not {*ANSWERED} & {*suites}:
        raise UsageError(
            f"--score is for the suites {', '.join(ANSWERED)}",
            expected="one of these in --suite; probe and buckets are scored by log-probabilities, "
            "and standard by each task's own measure",
        )
    return tuple(score for score in SCORES if score in names)


def chosen_tasks(
    text: str | None,
    suites: Sequence[Suite],
    haystack: str | None = None,
    *,
    lacking: Collection[str] = (),
) -> dict[Suite, tuple[str, ...]]:
    """The tasks of some suites that a list of names or globs chooses.

    Args:
        text: the list; None for all tasks.
        suites: what to evaluate.
        haystack: where filler comes from; in a recall world, the probe has another task.
        lacking: tasks whose file is not given. Neither all nor a glob means them, unless it means
            no other task.

    Raises:
        UsageError: a name matches no task, or a suite has none of them.
    """
    known: dict[Suite, tuple[str, ...]] = {suite: TASKS[suite] for suite in suites}
    if is_world(haystack) and "probe" in known:
        known["probe"] = (RECALL,)
    if text is None:
        return {
            suite: tuple(task for task in tasks if task not in lacking)
            for suite, tasks in known.items()
        }
    patterns = [pattern.strip() for pattern in text.split(",")]
    all_tasks = [task for tasks in known.values() for task in tasks]
    for pattern in patterns:
        if not any(fnmatchcase(task, pattern) for task in all_tasks):
            opened: list[Suite] = [suite for suite in OPEN if suite in known]
            if len(opened) == 1 and NAME.fullmatch(pattern):
                known[opened[0]] += (pattern,)
                all_tasks.append(pattern)
                continue
            raise UsageError(
                f"no task is named {pattern!r}",
                expected=", ".join(all_tasks),
                fix=_other_haystack(pattern),
            )
    meant = {task for pattern in patterns for task in _meant(pattern, all_tasks, lacking)}
    chosen: dict[Suite, tuple[str, ...]] = {
        suite: tuple(task for task in tasks if task in meant) for suite, tasks in known.items()
    }
    for suite, tasks in chosen.items():
        if not tasks:
            raise UsageError(
                f"--tasks names no task of the suite {suite}",
                expected=" or ".join(known[suite]),
                fix=f"name one, or leave {suite} out of --suite",
            )
    return chosen


def _meant(pattern: str, tasks: Collection[str], lacking: Collection[str]) -> list[str]:
    """The tasks that a name or a glob means: those that have what they need, if there is one."""
    named = [task for task in tasks if fnmatchcase(task, pattern)]
    return [task for task in named if task not in lacking] or named


def _other_haystack(task: str) -> str | None:
    """What to do about a task of the probe that another haystack would have."""
    if task == RECALL:
        return "the task recall needs a recall world: --haystack DIR/world.json"
    if task in TASKS["probe"]:
        return f"the task {task} needs text: --haystack SHARDS, or a file named *.txt or *.jsonl"
    return None
