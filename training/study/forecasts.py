"""What the trainings of a study will take, before any of them runs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ...schemas.errors import ExactcptError, UsageError
from ..config import Card, TrainConfig
from ..run.forecast import Forecast, forecast_of
from .foreseen import Foreseen
from .graph import Step

__all__ = ["USUAL", "OnGpus", "StageForecast", "StepForecast", "forecast_stages", "forecast_steps"]

USUAL = (1, 8)
"""Numbers of GPUs, where no others are asked for."""
NAMES = ("out", "seed", "arm", "init_from", "grad_norm_from", "weighting", "weight_table")
"""Settings of a training that change nothing of what it takes."""


@dataclass(frozen=True, kw_only=True)
class StepForecast:
    """What the training of a step will take.

    Attributes:
        step: the step.
        tau: where the tail of its windows begins; None if that is not known.
        tokens: that it trains on, padding included; None if that is not known.
        found: None if too little is known.
        unknown: why; None if enough is known.
    """

    step: Step
    tau: int | None = None
    tokens: int | None = None
    found: Forecast | None = None
    unknown: ExactcptError | None = None

    def to_json(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return {
            "step": self.step.name,
            "stage": self.step.kind,
            "tau": self.tau,
            "tokens": self.tokens,
            "forecast": self.found and self.found.to_json(),
            "unknown": self.unknown and str(self.unknown),
        }


@dataclass(frozen=True, kw_only=True)
class OnGpus:
    """What the trainings of a stage take on so many GPUs.

    Attributes:
        ranks: number of GPUs.
        memory: bytes of each, of the training that takes most.
        fits: whether they have so much.
        each: hours of one training, least and most.
        together: hours of all, one after the other.
    """

    ranks: int
    memory: int
    fits: bool
    each: tuple[float, float]
    together: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """What the trainings of a stage take.

    Attributes:
        stage: its name; that of the bases is "base".
        window: in tokens.
        tau: see `StepForecast`.
        is_bound: whether attention reaches less far than was assumed.
        runs: number of trainings.
        tokens: of all of them.
        on: one entry for each number of GPUs that all of them can be run on.
    """

    stage: str
    window: int
    tau: int | None
    is_bound: bool
    runs: int
    tokens: int
    on: tuple[OnGpus, ...]

    def to_json(self) -> dict[str, Any]:
        """All of it as values that JSON can hold."""
        return asdict(self)


def forecast_steps(
    steps: Iterable[Step], foreseen: Foreseen, card: Card, ranks: Sequence[int]
) -> list[StepForecast]:
    """What each training will take; steps without one are left out.

    Args:
        steps: of a study.
        foreseen: finds what they read.
        card: where they are to run.
        ranks: numbers of GPUs. Those that cannot share the global batch of a training are left
            out of its forecast.
    """
    known: dict[str, StepForecast] = {}

    def forecast_step(step: Step, settings: Mapping[str, Any]) -> StepForecast:
        alike = repr(sorted((n, v) for n, v in settings.items() if n not in NAMES))
        if alike not in known:
            known[alike] = _forecast(step, TrainConfig(**settings), foreseen, card, ranks)
        return replace(known[alike], step=step)

    return [forecast_step(step, step.training) for step in steps if step.training is not None]


def _forecast(
    step: Step, config: TrainConfig, foreseen: Foreseen, card: Card, ranks: Sequence[int]
) -> StepForecast:
    tau = tokens = None
    try:
        shards = foreseen.shards(config)
        tau = shards.tau
        windows = shards.windows
        tokens = windows.steps(config) * config.global_batch * windows.length
        if config.device == "cpu":
            raise UsageError("they are trained on a CPU", where='device = "cpu"')
        model = foreseen.model(config.model)
        can = [each for each in ranks if _can_share(config, each)]
        found = forecast_of(config, model, windows, card, can)
    except ExactcptError as error:
        return StepForecast(step=step, tau=tau, tokens=tokens, unknown=error)
    return StepForecast(step=step, tau=tau, tokens=tokens, found=found)


def _can_share(config: TrainConfig, ranks: int) -> bool:
    try:
        config.check_world(ranks)
    except UsageError:
        return False
    return True


def forecast_stages(steps: Sequence[StepForecast]) -> Iterator[StageForecast]:
    """Yields the sums of each stage of which all is known."""
    for stage in dict.fromkeys(each.step.kind for each in steps):
        # A base that is trained on is one run of two steps, and the later one tells of all of it.
        runs = {each.step.makes: each for each in steps if each.step.kind == stage}
        of_stage = list(runs.values())
        found = [each.found for each in of_stage if each.found is not None]
        if len(found) < len(of_stage):
            continue
        yield StageForecast(
            stage=stage,
            window=found[0].window,
            tau=of_stage[0].tau,
            is_bound=any(each.is_bound for each in found),
            runs=len(found),
            tokens=sum(each.tokens for each in found),
            on=tuple(_on(found)),
        )


def _on(found: Sequence[Forecast]) -> Iterator[OnGpus]:
    """Yields the sums on each number of GPUs that all trainings can be run on."""
    for ranks in [each.ranks for each in found[0].on]:
        on = [each for one in found for each in one.on if each.ranks == ranks]
        if len(on) < len(found):
            continue
        least, most = ([each.hours[i] for each in on] for i in (0, 1))
        yield OnGpus(
            ranks=ranks,
            memory=max(each.memory.total for each in on),
            fits=all(each.fits for each in on),
            each=(min(least), max(most)),
            together=(sum(least), sum(most)),
        )
