"""The gradient norms of another run, which a control run takes over.

A weighting changes the place of the loss, and with it the norm of every step's gradient. A run with
the norms of another one, step by step, and with its own weights shows what the norms alone do.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.errors import FormatError, UsageError
from ...schemas.sizes import plural
from ..config import TrainConfig
from .log import LOG, read_log, read_run

__all__ = ["gradient_norms", "norms_identity"]

OWN = ("seed", "init_from", "grad_norm_from")
"""The entries of a run's identity that are not the same for all runs of an arm."""


def norms_identity(config: TrainConfig, identity: Mapping[str, Any]) -> str | None:
    """A digest of the arm whose gradient norms a run takes; None if it takes none.

    Args:
        config: the settings of the run.
        identity: its identity, without this digest.

    Raises:
        UsageError: the other run has other windows.
        FormatError: the other folder is not a run.
    """
    if config.grad_norm_from is None:
        return None
    there = read_run(Path(config.grad_norm_from))
    other = {**there["identity"], "global_batch": there["settings"].get("global_batch")}
    ours = {**identity, "global_batch": config.global_batch}
    for name in ("shards", "seed", "global_batch"):
        if other.get(name) != ours[name]:
            raise UsageError(
                f"the run that has the gradient norms has {name} {other.get(name)}",
                where=config.grad_norm_from,
                expected=f"{ours[name]}, as this run: gradients are scaled step by step, and the "
                "steps of both runs must have the same windows",
            )
    of_arm = {name: value for name, value in there["identity"].items() if name not in OWN}
    return xxhash.xxh3_128_hexdigest(json.dumps(of_arm, sort_keys=True).encode())


def gradient_norms(config: TrainConfig, steps: int) -> list[float] | None:
    """The norm of each step's gradient in the other run, before clipping; None if there is none.

    Args:
        config: the settings of the run.
        steps: number of steps of the whole run.

    Raises:
        UsageError: the other run has another number of steps, or skipped one.
        FormatError: its log is damaged.
    """
    if config.grad_norm_from is None:
        return None
    run = Path(config.grad_norm_from)
    steps_there = [record for record in read_log(run) if record["kind"] == "step"]
    found: dict[int, Any] = {r["step"]: r.get("gradient_norm") for r in steps_there}
    if sorted(found) != list(range(1, steps + 1)):
        last = max(found, default=0)
        raise UsageError(
            f"the run that has the gradient norms has {plural(last, 'step')}",
            where=str(run),
            expected=f"{steps:,}, as this run",
            fix="let that run finish first, and give both the same number of steps",
        )
    skipped = [record["step"] for record in steps_there if record.get("skipped")]
    if skipped:
        raise UsageError(
            f"the run that has the gradient norms skipped step {skipped[0]:,}: its loss or "
            "gradient was not finite",
            where=str(run),
            expected="a run that skipped no step",
        )
    norms = [found[step] for step in range(1, steps + 1)]
    if not all(isinstance(norm, int | float) and norm >= 0 for norm in norms):
        raise FormatError(
            "the log has a step without a gradient norm",
            where=str(run / LOG),
            expected="gradient_norm, a number of at least 0, in each step",
        )
    return norms
