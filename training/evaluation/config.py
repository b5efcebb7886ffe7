"""The settings of an evaluation, checked when they are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, get_args

from ...schemas.errors import UsageError
from ...schemas.settings import check_range
from ..config import Device, Precision

__all__ = [
    "ABLATIONS",
    "RECALL",
    "SUITES",
    "TASKS",
    "Ablation",
    "EvaluateConfig",
    "Suite",
    "chosen_suites",
    "chosen_tasks",
    "is_world",
]

Suite = Literal["probe", "buckets"]
Ablation = Literal["replace", "swap", "remove"]

SUITES: tuple[Suite, ...] = get_args(Suite)
ABLATIONS: tuple[Ablation, ...] = get_args(Ablation)

TASKS: dict[Suite, tuple[str, ...]] = {
    "probe": ("number", "place", "code", "alias", "natural"),
    "buckets": ("bucket", "gain-128", "gain-512", "gain-tau", "recurrence"),
}
"""Suite -> its tasks."""

RECALL = "recall"
"""The only task of the probe where the haystack is a recall world."""

SHORTEST, LONGEST = 128, 1 << 24


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """The settings of an evaluation.

    Attributes:
        models: runs, RUN@STEP for a checkpoint that is not the newest, or Hugging Face folders.
        suites: what to evaluate.
        tasks: suite -> its tasks.
        lengths: tokens of the probe's longest prompts with their answers; None for the trained
            window, twice and four times it.
        items: of each task and length, or windows of the suite `buckets`.
        haystack: a shard set, a text or JSON Lines file, or the world.json of a recall world; None
            for the shards of the first run.
        tokenizer: for items without a model; None for that of the haystack.
        seed: of the items.
        ablation: what stands in the place of the evidence in an ablated prompt.
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
    items: int = 100
    haystack: str | None = None
    tokenizer: str | None = None
    seed: int = 0
    ablation: Ablation = "replace"
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
        check_range("batch_tokens", self.batch_tokens, 1, 1 << 40)
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

    def _check_items_only(self) -> None:
        if self.suites != ("probe",):
            raise UsageError(
                "--items-only writes items of the suite probe",
                expected="--suite probe",
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
    return haystack is not None and Path(haystack).suffix == ".json"


def chosen_tasks(
    text: str | None, suites: Sequence[Suite], haystack: str | None
) -> dict[Suite, tuple[str, ...]]:
    """The tasks of some suites that a list of names or globs chooses; all if there is none.

    Args:
        text: the list.
        suites: what to evaluate.
        haystack: where filler comes from; in a recall world, the probe has another task.

    Raises:
        UsageError: a name matches no task, or a suite has none of them.
    """
    known: dict[Suite, tuple[str, ...]] = {suite: TASKS[suite] for suite in suites}
    if is_world(haystack) and "probe" in known:
        known["probe"] = (RECALL,)
    if text is None:
        return known
    patterns = [pattern.strip() for pattern in text.split(",")]
    all_tasks = [task for tasks in known.values() for task in tasks]
    for pattern in patterns:
        if not any(fnmatchcase(task, pattern) for task in all_tasks):
            raise UsageError(
                f"no task is named {pattern!r}",
                expected=", ".join(all_tasks),
                fix=_other_haystack(pattern),
            )
    chosen: dict[Suite, tuple[str, ...]] = {
        suite: tuple(t for t in tasks if any(fnmatchcase(t, p) for p in patterns))
        for suite, tasks in known.items()
    }
    for suite, tasks in chosen.items():
        if not tasks:
            raise UsageError(
                f"--tasks names no task of the suite {suite}",
                expected=" or ".join(known[suite]),
                fix=f"name one, or leave {suite} out of --suite",
            )
    return chosen


def _other_haystack(task: str) -> str | None:
    """What to do about a task of the probe that another haystack would have."""
    if task == RECALL:
        return "the task recall needs a recall world: --haystack DIR/world.json"
    if task in TASKS["probe"]:
        return f"the task {task} needs text: --haystack SHARDS, or a file named *.txt or *.jsonl"
    return None
