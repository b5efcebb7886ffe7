"""Where a run starts: at its own newest checkpoint, with an earlier run's weights, or anew.

A run has an identity: its shards, seed, weighting, denominator, model, positions, and the run it
came from. It only goes on as itself. Other settings may change on the way; the log says since when.
"""

import json
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.errors import FormatError, UsageError
from ..config import PATHS, TrainConfig
from ..models.optim import schedule_cautions
from ..windows.agreement import model_fingerprint
from ..windows.batches import ShardDataset
from .checkpoint import newest_checkpoint, read_meta
from .folder import is_unused
from .inputs import Inputs
from .log import RUN, RunLog, read_run, stretches, write_run
from .world import World

__all__ = ["Position", "Start", "cautions", "find_start", "open_log", "planned_steps"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """Where a run is: `step` optimizer steps and `windows` windows of its order are done."""

    step: int = 0
    windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts.

    Attributes:
        at: steps and windows that are done.
        checkpoint: what is loaded: all of the run's own, the weights of an earlier run's; None for
            the model's weights.
        identity: of the run.
        earlier: of the run that `init_from` names: `step` of its checkpoint, `meta`, the
            fingerprint of the checkpoint's meta.json, and its `identity`, `stretches` and
            `earlier`; None without one.
        stretches: of settings, as the checkpoint has them.
        note: for a person; None where a run is new.
    """

    at: Position = Position()
    checkpoint: Path | None = None
    identity: Record
    earlier: Record | None = None
    stretches: Sequence[Record] = ()
    note: str | None = None


def find_start(config: TrainConfig, inputs: Inputs) -> Start:
    """Where the run starts.

    A run that goes on keeps the checkpoint it began with: the earlier run may have newer ones now.

    Raises:
        UsageError: the folder is of another run, or of none; there is no checkpoint to take weights
            from, or it is of other positions than this run would have.
        FormatError: a checkpoint, or what else is recorded of a run, cannot be read.
    """
    folder = Path(config.out)
    own = newest_checkpoint(folder)
    before = None if own is None else read_meta(own)
    origin: Path | None = None
    earlier: Record | None = None
    if before is not None and _folder(before["settings"].get("init_from")) == _folder(
        config.init_from
    ):
        earlier = before["earlier"]
    elif config.init_from is not None:
        origin, earlier = _earlier(config, config.init_from)
    init_from = earlier and {name: earlier[name] for name in ("step", "meta")}
    model = model_fingerprint(Path(config.model))
    identity = inputs.identity | {"model": model, "init_from": init_from}
    if own is not None and before is not None:
        _refuse_other(before["identity"], identity, own)
        return Start(
            at=Position(step=before["step"], windows=before["windows"]),
            checkpoint=own,
            identity=identity,
            earlier=earlier,
            stretches=before["stretches"],
            note=_goes_on(own, before, config),
        )
    note = None
    if (folder / RUN).exists():
        _refuse_other(_begun(folder)["identity"], identity, folder)
        note = "begins again: the run in this folder has no checkpoint"
    elif not is_unused(folder):
        raise UsageError(
            "the run's folder has something else in it",
            where=config.out,
            fix="name an empty or a new folder",
        )
    return Start(checkpoint=origin, identity=identity, earlier=earlier, note=note)


def _folder(path: str | None) -> Path | None:
    """By whatever name it is given."""
    return None if path is None else Path(path).resolve()


def _begun(folder: Path) -> Record:
    """What is recorded of a run that has no checkpoint."""
    try:
        return read_run(folder)
    except FormatError as error:
        error.fix = "remove the folder, which has no checkpoint, or name another --out"
        raise


def _earlier(config: TrainConfig, run: str) -> tuple[Path, Record]:
    """The newest checkpoint of an earlier run, and what is known of that run."""
    path = newest_checkpoint(Path(run))
    if path is None:
        raise UsageError(
            "there is no checkpoint to take weights from",
            where=run,
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
    kept = {name: meta[name] for name in ("step", "identity", "stretches", "earlier")}
    return path, {**kept, "meta": xxhash.xxh3_128_hexdigest(text)}


def _refuse_other(before: Record, now: Record, where: Path) -> None:
    changed = _differences(before, now)
    if changed:
        lines = [f"{name}: {old} before, {new} now" for name, old, new in changed]
        raise UsageError(
            "the run cannot go on with other inputs:\n    " + "\n    ".join(lines),
            where=str(where),
            fix="give what it was begun with, or another --out",
        )


def _goes_on(own: Path, before: Record, config: TrainConfig) -> str:
    changed = [
        f"{name} {new} (was {old})"
        for name, old, new in _differences(before["settings"], config.recorded())
        if name not in PATHS
    ]
    with_other = f", with {', '.join(changed)}" if changed else ""
    return f"goes on after step {before['step']:,}{with_other}, from {own}"


def _differences(before: Record, now: Record) -> list[tuple[str, Any, Any]]:
    names = sorted(before.keys() | now.keys())
    pairs = [(name, before.get(name), now.get(name)) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]


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


def cautions(config: TrainConfig, inputs: Inputs, steps: int) -> Iterator[str]:
    """What a person may not expect of a run, a line each."""
    if config.eval_every and not inputs.eval_sets:
        yield "nothing is evaluated: the shards have no validation windows, and there is no --eval"
    yield from schedule_cautions(steps, config)


def open_log(config: TrainConfig, inputs: Inputs, world: World, start: Start) -> RunLog | None:
    """Writes what there is to know of a run and opens its log, on the first rank alone."""
    if not world.is_first:
        return None
    run = {
        "settings": config.recorded(),
        "model_folder": str(Path(config.model).absolute()),
        "identity": start.identity,
        "earlier": start.earlier,
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
    log = RunLog(Path(config.out), step=start.at.step, tensorboard=config.tensorboard)
    if not stretches(log.others):  # it was lost
        for stretch in start.stretches:
            log.write("start", {"step": stretch["after"], "settings": stretch["settings"]})
    return log
