"""Where a run starts: at its own newest checkpoint, with an earlier run's weights, or anew."""

import json
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from ..schemas.errors import UsageError
from .agreement import model_fingerprint
from .checkpoint import newest_checkpoint, read_meta
from .config import TrainConfig
from .data import ShardDataset
from .inputs import Inputs
from .log import RUN, RunLog, write_run
from .world import World

__all__ = ["Origin", "Position", "find_newest", "find_origin", "open_log", "planned_steps"]


@dataclass(frozen=True)
class Position:
    """Where a run is: `step` optimizer steps and `windows` windows of its order are done."""

    step: int = 0
    windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run's weights were before its first step.

    Attributes:
        model: fingerprint of the model's folder.
        earlier: of the checkpoint of an earlier run, its step and the fingerprint of its meta.json,
            which has that run's identity and settings; None without one.
        path: that checkpoint; None without one, and where the run only goes on.
    """

    model: str
    earlier: dict[str, Any] | None = None
    path: Path | None = None


def find_origin(config: TrainConfig) -> Origin:
    """Where the weights are from.

    A run that goes on keeps the checkpoint it began with: the earlier run may have newer ones now.

    Raises:
        UsageError: there is no checkpoint, or it is of other positions than this run would have.
    """
    model = model_fingerprint(Path(config.model))
    if config.init_from is None:
        return Origin(model=model)
    own = newest_checkpoint(Path(config.out))
    if own is not None:
        before = read_meta(own)
        if before["settings"].get("init_from") == config.init_from:
            return Origin(model=model, earlier=before["identity"].get("init_from"))
    path = newest_checkpoint(Path(config.init_from))
    if path is None:
        raise UsageError(
            "there is no checkpoint to take weights from",
            where=config.init_from,
            expected="the folder of an earlier run; a Hugging Face folder goes to --model",
        )
    meta = read_meta(path)
    for name in ("rope_theta", "yarn_factor"):
        trained = meta["identity"].get(name)
        if trained is not None and getattr(config, name) is None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"the earlier run was trained with {flag} {trained:g}, and this one has none",
                where=str(path),
                fix=f"give {flag} {trained:g}, or another value if that is what you want",
            )
    text = json.dumps(meta, sort_keys=True).encode()
    earlier = {"step": meta["step"], "meta": xxhash.xxh3_128_hexdigest(text)}
    return Origin(model=model, earlier=earlier, path=path)


def find_newest(config: TrainConfig, identity: dict[str, Any]) -> Path | None:
    """The checkpoint to go on from, if it is one of this run.

    Raises:
        UsageError: the folder is of another run, or of none.
    """
    out = Path(config.out)
    newest = newest_checkpoint(out)
    if newest is None:
        if out.is_dir() and any(out.iterdir()) and not (out / RUN).exists():
            raise UsageError(
                "the run's folder has something else in it",
                where=config.out,
                fix="name an empty or a new folder",
            )
        return None
    before = read_meta(newest)["identity"]
    changed = [
        f"{name}: {before.get(name)} before, {identity.get(name)} now"
        for name in sorted(before.keys() | identity.keys())
        if before.get(name) != identity.get(name)
    ]
    if changed:
        raise UsageError(
            "the run cannot go on with other inputs:\n    " + "\n    ".join(changed),
            where=str(newest),
            fix="give what it was begun with, or another --out",
        )
    return newest


def planned_steps(config: TrainConfig, at: Position, windows: ShardDataset) -> int:
    """Steps of the whole run."""
    if config.steps is not None:
        return config.steps
    in_all = len(windows) if config.max_tokens is None else config.max_tokens // windows.window
    steps = at.step + max(0, in_all - at.windows) // config.global_batch
    if not steps:
        raise UsageError(
            f"the run has {in_all:,} windows, and a step takes {config.global_batch:,}",
            fix="give --steps or a smaller --global-batch; epochs follow each other by themselves",
        )
    return steps


def open_log(config: TrainConfig, inputs: Inputs, world: World, start: Position) -> RunLog | None:
    """Writes what there is to know of a run and opens its log, on the first rank alone."""
    if not world.is_first:
        return None
    run = {
        "settings": config.recorded(),
        "model_folder": str(Path(config.model).absolute()),
        "identity": inputs.identity,
        "world": world.size,
        "device": str(world.device.type),
        "window": inputs.shards.window,
        "longest_window": inputs.longest_window,
        "buckets": [
            {name: row[name] for name in ("low", "high", "in_tail", "weight")}
            for row in inputs.shards.buckets
        ],
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("exactcpt", "torch", "transformers")},
        },
    }
    write_run(Path(config.out), run)
    return RunLog(Path(config.out), step=start.step, tensorboard=config.tensorboard)
