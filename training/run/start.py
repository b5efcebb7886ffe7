"""Where a run starts: at its own newest checkpoint, with an earlier run's weights, or anew.

The identity of a run is its shards, seed, weighting, denominator, model and positions, the run that
its weights came from, and the arm whose gradient norms it takes. A run only continues with the same
identity. Other settings may change on the way; the log says from which step on.
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
from ...schemas.held_out import leaks
from ...schemas.hub import origin_of
from ...schemas.settings import flag_of
from ...schemas.sizes import plural
from ..config import PATHS, SETTINGS, TrainConfig
from ..models.optim import schedule_cautions
from .boards import open_boards
from .checked import record_of_checks
from .checkpoint_files import newest_checkpoint, read_meta
from .folder import is_unused
from .gradient_norms import norms_identity
from .inputs import Inputs
from .log import RUN, RunLog, read_run, stretches, write_run
from .world import World

__all__ = ["Position", "Start", "cautions", "find_start", "open_log", "planned_steps"]

Record = dict[str, Any]


@dataclass(frozen=True)
class Position:
    """The progress of a run: the numbers of optimizer steps and of windows that are done.

    A step that was skipped counts as a step: its windows are done, the next step takes others, and
    its learning rate is that of its number.
    """

    step: int = 0
    windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts.

    Attributes:
        at: the steps and windows that are done.
        skipped: number of steps that were skipped among those that are done.
        checkpoint: the checkpoint to load: all of it if it is the run's own, its weights if it is
            an earlier run's; None to start with the model's weights.
        identity: the identity of the run.
        earlier: the run that `init_from` names: the `step` of its checkpoint, `meta`, the
            fingerprint of that checkpoint's meta.json, and its own `identity`, `stretches` and
            `earlier`; None without `init_from`.
        stretches: the settings so far, as the checkpoint has them; see `log.stretches`.
        note: a line for a person; None for a new run.
    """

    at: Position = Position()
    skipped: int = 0
    checkpoint: Path | None = None
    identity: Record
    earlier: Record | None = None
    stretches: Sequence[Record] = ()
    note: str | None = None


def find_start(config: TrainConfig, inputs: Inputs, model: str) -> Start:
    """Finds out where the run starts.

    A run that is continued keeps the earlier run's checkpoint that it began with: by now the
    earlier run may have newer ones.

    Args:
        config: the settings.
        inputs: what is read.
        model: the fingerprint of the model.

    Raises:
        UsageError: the folder has another run or other files in it; the earlier run has no
            checkpoint, or was trained with other positions than this run would have.
        FormatError: a checkpoint or the record of a run cannot be read.
    """
    folder = Path(config.out)
    own = newest_checkpoint(folder)
    before = None if own is None else read_meta(own)
    origin, earlier = _origin(config, before)
    init_from = earlier and {name: earlier[name] for name in ("step", "meta")}
    identity = inputs.identity | {"model": model, "init_from": init_from}
    identity["grad_norm_from"] = norms_identity(config, identity)
    if own is not None and before is not None:
        _refuse_other(before["identity"], identity, own)
        return Start(
            at=Position(step=before["step"], windows=before["windows"]),
            skipped=before["skipped"],
            checkpoint=own,
            identity=identity,
            earlier=earlier,
            stretches=before["stretches"],
            note=_goes_on(own, before, config),
        )
    note = _anew(folder, identity)
    return Start(checkpoint=origin, identity=identity, earlier=earlier, note=note)


def _anew(folder: Path, identity: Record) -> str | None:
    """Checks that a run without a checkpoint may start in a folder; returns a line about it."""
    if (folder / RUN).exists():
        _refuse_other(_begun(folder)["identity"], identity, folder)
        return "starts again from the beginning: the run in this folder has no checkpoint"
    if not is_unused(folder):
        raise UsageError(
            "the folder has other files in it",
            where=str(folder),
            fix="name an empty folder or a new one",
        )
    return None


def _origin(config: TrainConfig, before: Record | None) -> tuple[Path | None, Record | None]:
    """The checkpoint to take the first weights from, and the record of the earlier run.

    A run that continues, with the same earlier run, no longer needs the weights of that run.
    """
    if config.init_from is None:
        return None, None
    if before is not None and _folder(before["settings"].get("init_from")) == _folder(
        config.init_from
    ):
        return None, before["earlier"]
    return _earlier(config, config.init_from)


def _folder(path: str | None) -> Path | None:
    """A folder's resolved path, which is equal for all ways to name it."""
    return None if path is None else Path(path).resolve()


def _begun(folder: Path) -> Record:
    """The record of a run that has no checkpoint."""
    try:
        return read_run(folder)
    except FormatError as error:
        error.fix = "remove the folder, which has no checkpoint, or name another --out"
        raise


def _earlier(config: TrainConfig, run: str) -> tuple[Path, Record]:
    """The newest checkpoint of an earlier run, and the record of that run."""
    path = newest_checkpoint(Path(run))
    if path is None:
        raise UsageError(
            "the earlier run has no checkpoint to take weights from",
            where=run,
            expected="the folder of an earlier run; for a Hugging Face folder, use --model",
        )
    meta = read_meta(path)
    for name in ("rope_theta", "yarn_factor"):
        trained = meta["identity"].get(name)
        if trained is not None and getattr(config, name) is None:
            flag = flag_of(name)
            raise UsageError(
                f"the earlier run was trained with {flag} {trained:g}, this one has no {flag}",
                where=str(path),
                fix=f"give {flag} {trained:g}, or another value on purpose",
            )
    text = json.dumps(meta, sort_keys=True).encode()
    kept = {name: meta[name] for name in ("step", "identity", "stretches", "earlier")}
    return path, {**kept, "meta": xxhash.xxh3_128_hexdigest(text)}


def _refuse_other(before: Record, now: Record, where: Path) -> None:
    changed = _differences(before, now)
    if changed:
        lines = [f"{name}: {old} before, {new} now" for name, old, new in changed]
        raise UsageError(
            "the run cannot continue with other inputs:\n    " + "\n    ".join(lines),
            where=str(where),
            fix="give the inputs it was started with, or another --out",
        )


def _goes_on(own: Path, before: Record, config: TrainConfig) -> str:
    changed = [
        f"{name} {new} (was {old})"
        for name, old, new in _differences(before["settings"], config.recorded())
        if name not in PATHS
    ]
    with_other = f", with {', '.join(changed)}" if changed else ""
    return f"continues after step {before['step']:,}{with_other}, from {own}"


def _differences(before: Record, now: Record) -> list[tuple[str, Any, Any]]:
    names = sorted(before.keys() | now.keys())
    # What an earlier version did not record, it did as is now the default.
    defaults = {name: field.default for name, field in SETTINGS.items()}
    pairs = [(name, before.get(name, defaults.get(name)), now.get(name)) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]


def planned_steps(config: TrainConfig, at: Position, windows: int, length: int) -> int:
    """The number of steps of the whole run.

    Args:
        config: its settings.
        at: what is done.
        windows: number of training windows of the shard set.
        length: of a window, in tokens.

    Raises:
        UsageError: there are too few windows for one step, or more steps are done.
    """
    if config.steps is not None:
        if config.steps < at.step:
            raise UsageError(
                f"the run has taken {plural(at.step, 'step')}",
                where=config.out,
                expected=f"at least as many with --steps, not {config.steps:,}",
                fix="start another run for fewer steps; a checkpoint of this one may have as many",
            )
        return config.steps
    in_all = windows if config.max_tokens is None else config.max_tokens // length
    steps = at.step + max(0, in_all - at.windows) // config.global_batch
    if not steps:
        raise UsageError(
            f"the run has {plural(in_all, 'window')}, and a step takes {config.global_batch:,}",
            fix="give --steps, for more than one epoch, or a smaller --global-batch",
        )
    return steps


def cautions(config: TrainConfig, inputs: Inputs, steps: int) -> Iterator[str]:
    """Yields one line for each thing that a person may not expect of the run."""
    if config.mix is not None and inputs.mix is not None:
        sets = zip(config.mix.items(), inputs.mix.sizes, strict=True)
        for (path, share), size in sets:
            wanted = steps * config.global_batch * float(share)
            yield (
                f"mix: {path}  {float(share):.2%} of the windows, {wanted / size:,.2f} times its "
                f"{plural(size, 'window')}"
            )
    if config.eval_every and not inputs.eval_sets:
        yield "nothing is evaluated: the shards have no validation windows and no --eval is given"
    for each in inputs.eval_sets:
        for line in leaks(inputs.sets, each.windows.shards, what=f"eval set {each.name!r}"):
            yield f"caution: {line}"
    yield from schedule_cautions(steps, config)


def open_log(config: TrainConfig, inputs: Inputs, world: World, start: Start) -> RunLog | None:
    """Writes the record of the run and opens its log; None on all ranks but the first."""
    if not world.is_first:
        return None
    origin = origin_of(config.model)
    run = {
        "settings": config.recorded(),
        "model_folder": str(Path(config.model).absolute()),
        **({} if origin is None else {"model_origin": origin}),
        "identity": start.identity,
        **record_of_checks(config, inputs.checked),
        "earlier": start.earlier,
        "world": world.size,
        "device": str(world.device.type),
        "window": inputs.shards.window,
        "longest_window": inputs.longest_window,
        "end_token": inputs.end_token,
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
    boards = open_boards(
        Path(config.out),
        step=start.at.step,
        tensorboard=config.tensorboard,
        tracker=config.log_to,
        settings=config.recorded(),
    )
    log = RunLog(Path(config.out), step=start.at.step, boards=boards)
    if not stretches(log.others):  # it was lost
        for stretch in start.stretches:
            log.write("start", {"step": stretch["after"], "settings": stretch["settings"]})
    return log
