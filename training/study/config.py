"""The settings of a study, from its TOML file, checked when it is read.

    [study]      name, baseline, floor, seeds, what differs from the paper
    [[prepare]]  commands that make what is trained on
    [train]      settings of every training
    [base]       a training that all arms start from, and the gate it must pass
    [[stage]]    trainings of every arm and seed, one after the other
    [[arm]]      the settings in which an arm differs
    [evaluate]   how the runs are evaluated, and after which stages
    [[primary]]  the endpoints that the study is about

In every text, `{here}` is the folder of the file. All other paths are below the study's own folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..evaluation.assemble import Context

__all__ = [
    "MARGINS",
    "Arm",
    "Base",
    "Claim",
    "Endpoint",
    "Gate",
    "Prepare",
    "Primary",
    "Stage",
    "Study",
    "merged",
]

Settings = Mapping[str, Any]

Endpoint = Literal["probe.far", "probe.near", "probe.slope"]
Claim = Literal["greater", "equivalent"]

MARGINS: Mapping[str, float] = {"probe.near": 0.05}
"""How far from 0 an endpoint may be, in nats, and still count as unchanged."""


RIVALS = {"steps": "max_tokens", "max_tokens": "steps", "shards": "mix", "mix": "shards"}
"""Settings of `train` of which one takes the place of the other."""


def merged(*several: Settings) -> dict[str, Any]:
    """Settings of `train`, those of a later table before those of an earlier one."""
    found: dict[str, Any] = {}
    for settings in several:
        replaced = {RIVALS[name] for name in settings if name in RIVALS}
        found = {n: value for n, value in found.items() if n not in replaced} | dict(settings)
    return found


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """Commands that make something the trainings need.

    Attributes:
        makes: the file or folder that they leave in the study's folder.
        run: the name and arguments of each, in order.
    """

    makes: str
    run: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What a base must have learnt before arms start from it.

    Attributes:
        up_to: the largest distance that counts, in tokens.
        gain: the mean gain at these distances that it must reach, in nats, in the probe's context
            `minimal`.
        extend: a base that does not reach it is trained on, to at most so many times its plan.
    """

    up_to: int
    gain: float
    extend: int = 1


@dataclass(frozen=True, kw_only=True)
class Base:
    """Trainings that all arms start from.

    Attributes:
        seeds: of the candidates, in the order in which they are tried.
        wanted: how many are used: the first that pass the gate.
        gate: None if all pass.
        settings: of `train`.
    """

    seeds: tuple[int, ...]
    wanted: int
    gate: Gate | None
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A training of every arm and seed.

    Attributes:
        name: of the stage.
        start: the stage whose run it starts from; None for the base, or the model without one.
        settings: of `train`. If the weighting is among them, no setting of an arm counts.
    """

    name: str
    start: str | None
    settings: Settings

    @property
    def is_alike(self) -> bool:
        """Whether all arms are trained alike."""
        return "weighting" in self.settings

    def settings_of(self, arm: "Arm") -> dict[str, Any]:
        """The settings of the training of an arm."""
        return merged(self.settings, {} if self.is_alike else arm.settings)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """What is compared.

    Attributes:
        name: of the arm.
        settings: of `train`.
        grad_norm_from: the arm whose gradient norms its runs take; None for none.
    """

    name: str
    settings: Settings
    grad_norm_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Primary:
    """An endpoint that the study is about.

    Attributes:
        endpoint: a figure of the probe.
        arm: whose figure.
        against: the arms that it is compared with, each for itself.
        claim: that the difference is above 0, or that it is within the margin.
        stage: after which it is measured.
        length: of the prompts; None for the only one.
        context: of the probe's prompts.
        margin: of equivalence, in nats; None for the claim that it is greater.
    """

    endpoint: Endpoint
    arm: str
    against: tuple[str, ...]
    claim: Claim
    stage: str
    length: int | None
    context: Context
    margin: float | None


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study.

    Attributes:
        name: for the reader.
        baseline: the arm that the others are compared with.
        floor: the arm whose difference from it is the noise floor: the first with the weighting
            `matched`, if the file names none; None if there is no such arm.
        seeds: of the stages.
        differs: what differs from the paper, in sentences.
        prepare: commands, in order.
        base: what all arms start from; None for the model.
        stages: in order; each stands after the one that it starts from.
        arms: by name.
        evaluate: settings of `evaluate`, as its flags have them.
        evaluated: names of the stages whose runs are evaluated.
        primaries: the endpoints that the study is about.
        registered: section -> what must not change once a step has run, as the file has it.
        free: the same for what may change.
    """

    name: str
    baseline: str
    floor: str | None
    seeds: tuple[int, ...]
    differs: tuple[str, ...] = ()
    prepare: tuple[Prepare, ...]
    base: Base | None
    stages: tuple[Stage, ...]
    arms: Mapping[str, Arm]
    evaluate: tuple[str, ...]
    evaluated: tuple[str, ...]
    primaries: tuple[Primary, ...]
    registered: Mapping[str, Any] = field(repr=False)
    free: Mapping[str, Any] = field(repr=False)
