"""The settings in which runs differ.

Settings are compared as they were, step by step, up to the last step that all runs have. So are the
settings of the runs that the weights came from, under the name `init_from.NAME`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ..config import PATHS, SETTINGS
from .recorded import RecordedRun

__all__ = ["Changed", "arm_key", "differing", "settings_until", "special", "unwanted"]

PER_RUN = {"seed", "weighting", "weight_table", "grad_norm_from", "arm"}
"""Settings in which the runs of a comparison differ: in the seed within an arm, in what is compared
between arms."""

INCIDENTAL = {
    "micro_batch", "save_every", "keep", "export_every", "log_every", "profile", "tensorboard",
    "log_to", "loader_workers", "max_bad_steps", "check_shards", "peak_tflops", "eval_every",
    "eval_windows", "keep_products", "reduce_once", "shard_over", "deterministic",
}  # fmt: skip
"""Settings that change a figure only through the order in which numbers are added, like the number
of ranks. What was evaluated is in the records of the evaluations."""

EARLIER = "init_from."

Settings = dict[str, Any]


@dataclass(frozen=True)
class Changed:
    """A setting that was changed when its run was continued.

    Attributes:
        values: pairs of the first step with a value, and the value.
    """

    values: tuple[tuple[int, Any], ...]

    def __str__(self) -> str:
        (_, first), *later = self.values
        return f"{first}" + "".join(f", from step {step:,} on {value}" for step, value in later)


def settings_until(run: RecordedRun, last: int, own: int | None = None) -> Settings:
    """The settings of a run up to a step, and of the runs its weights came from.

    Inputs are named by what they are, not by where they are. A setting that was changed during
    the run is a `Changed`.

    Args:
        run: the run.
        last: the step.
        own: how many trainings count, this one included; None for all.
    """
    return _flat(run.recorded, last, own)


def special(recorded: dict[str, Any]) -> Settings:
    """What arms may differ in, of a training and those before it."""
    every = arm_key(_flat(recorded, recorded["step"], None))
    return {name: value for name, value in every.items() if _base(name) in PER_RUN}


def _flat(recorded: dict[str, Any], last: int, own: int | None) -> Settings:
    held = [stretch for stretch in recorded["stretches"] if stretch["after"] < last]
    names = {name for stretch in held for name in stretch["settings"]} | {*SETTINGS}
    names -= {*PATHS, "eval", "mix"}
    flat = {name: _value(held, name) for name in names}
    flat |= {
        n: recorded["identity"].get(n)
        for n in ("shards", "model", "weight_table", "grad_norm_from")
    }
    earlier = recorded["earlier"]
    if own == 1 and earlier is not None:
        return flat
    if earlier is None:
        return flat | {f"{EARLIER}step": None}
    before = _flat(earlier, earlier["step"], own and own - 1) | {"step": earlier["step"]}
    return flat | {EARLIER + n: v for n, v in before.items() if _base(n) not in INCIDENTAL}


def _value(held: Iterable[dict[str, Any]], name: str) -> Any:
    """The one value of a setting, or all that it had. A run of a version that did not have it did
    what is now the default."""
    default = SETTINGS[name].default if name in SETTINGS else None
    values: list[tuple[int, Any]] = []
    for stretch in held:
        value = stretch["settings"].get(name, default)
        if not values or values[-1][1] != value:
            values.append((stretch["after"] + 1, value))
    return values[0][1] if len(values) == 1 else Changed(tuple(values))


def arm_key(settings: Settings) -> Settings:
    """The settings that the runs of an arm have in common; one that is not set is left out."""
    kept = {n: v for n, v in settings.items() if _base(n) not in {"seed"} | INCIDENTAL}
    return {n: v for n, v in kept.items() if v is not None}


def differing(settings: dict[str, Settings]) -> dict[str, Settings]:
    """The settings that are not the same in all runs.

    Args:
        settings: run -> its settings.

    Returns:
        Name of a setting -> run -> its value.
    """
    each = list(settings.values())
    names = {name for flat in each for name in flat}
    # If the weights of one run came from another run and those of the next did not, nothing more
    # needs to be compared.
    names = {n for n in names if EARLIER not in n or all(n in flat for flat in each)} | {
        n for n in names if n.endswith(f"{EARLIER}step")
    }
    return {
        name: {path: flat.get(name) for path, flat in settings.items()}
        for name in sorted(names)
        if any(flat.get(name) != each[0].get(name) for flat in each)
    }


def unwanted(names: Iterable[str], wanted: Collection[str] = ()) -> list[str]:
    """The differing settings in which pairs must be equal, if those wanted may differ."""
    return [name for name in names if _base(name) not in {*PER_RUN, *INCIDENTAL, *wanted}]


def _base(name: str) -> str:
    """A setting's name without the runs it belongs to."""
    return name.rpartition(".")[2]
