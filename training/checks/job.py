"""One check of a trainer, from its name to its results."""

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.shard_set import ShardSet, open_set
from ..models.named import model_folder
from .checks import CHECKS, Bench, Noise, Result, run_checks
from .trainers import Step, importing_here, run_step, step_of_folder, step_of_function
from .windows import choose_windows

__all__ = ["Report", "check_trainer"]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the checks of a trainer have found.

    Attributes:
        trainer, shards: as they were given.
        loop: of a model folder, how it is trained; else None.
        windows: the numbers of the windows that were used, in the train split.
        results: one per check.
        noise: how far gradients may be apart that should be equal.
        steps: how many steps were run.
    """

    trainer: str
    shards: str
    loop: str | None
    windows: tuple[int, int]
    results: list[Result]
    noise: Noise
    steps: int

    @property
    def holds(self) -> bool:
        """Whether no check fails."""
        return all(result.outcome != "fails" for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "trainer": self.trainer,
            "shards": self.shards,
            "loop": self.loop,
            "windows": list(self.windows),
            "holds": self.holds,
            "checks": [asdict(result) for result in self.results],
            "noise": {
                "repeated": self.noise.repeated,
                "tripled": self.noise.tripled,
                "exact": self.noise.exact,
                "sums": self.noise.sums,
            },
            "steps": self.steps,
        }


def check_trainer(
    trainer: str, shards: str, loop: str | None, say: Callable[[str], None]
) -> Report:
    """Checks a trainer on windows of a shard set.

    Args:
        trainer: a Hugging Face folder, or `module:function`.
        shards: the folder of the shard set.
        loop: of a folder, how it is trained: `plain`, `positions` or `exactcpt`; None for `plain`.
        say: takes lines for a person.

    Raises:
        UsageError: there is no such trainer, it does not belong to the shards, or the shards have
            no windows to try it with.
        ExactcptError: the step ends with an error, or returns no gradient.
    """
    opened = open_set(shards, say)
    tried = choose_windows(opened)
    is_function = ":" in trainer and not Path(trainer).exists()
    if is_function and loop is not None:
        raise UsageError(
            "--loop is given with a function", expected="--loop with a Hugging Face folder only"
        )
    if not is_function:
        loop = loop or "plain"
    # What the trainer prints is no part of the result.
    with importing_here(), redirect_stdout(sys.stderr):
        step = _step_of(trainer, opened, loop)
        bench = Bench(partial(run_step, step, trainer), tried)
        first, second = tried.numbers
        say(
            f"about {2 * len(CHECKS)} steps with the training windows {first:,} and {second:,}, "
            f"of {opened.window:,} tokens each"
        )
        results = run_checks(bench)
    return Report(
        trainer=trainer,
        shards=shards,
        loop=loop,
        windows=tried.numbers,
        results=results,
        noise=bench.noise,
        steps=bench.steps,
    )


def _step_of(trainer: str, shards: ShardSet, loop: str | None) -> Step:
    if loop is None:
        return step_of_function(trainer)
    return step_of_folder(model_folder(trainer), shards, loop)
