"""Checkpoints of a run: complete or absent, written while training continues.

    RUN/checkpoints/step-00000100/           a complete checkpoint
        meta.json                            the state of the loop
        .metadata  __0_0.distcp  ...         weights and optimizer, by torch.distributed.checkpoint
    RUN/checkpoints/step-00000200.partial/   one that is being written, or the remains of one

All ranks write a checkpoint under a name that nobody reads; rank 0 renames it when the files of
every rank are on disk. Only then are older checkpoints removed. So the newest complete checkpoint
is usable at every moment, even after SIGKILL. Weights and optimizer are stored as tensors of the
whole model: any number of ranks can read them.

All ranks must see the same folder.
"""

import json
import os
import pickle
import re
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.optim import Optimizer

from ...schemas.errors import ExactcptError, FormatError
from ...schemas.json_text import parse_json
from ...schemas.regular import read_regular
from ...schemas.sizes import plural
from .log import Fields, require

__all__ = [
    "CheckpointManager",
    "complete_checkpoints",
    "load_weights",
    "newest_checkpoint",
    "read_meta",
]

META = "meta.json"
META_FIELDS: Fields = {
    "step": int,
    "windows": int,
    "identity": dict,
    "settings": dict,
    "stretches": list,
    "earlier": (dict, type(None)),
}
PARTIAL = ".partial"
REMOVE = "remove it to continue from the one before"


class CheckpointManager:
    """Saves and loads the checkpoints of one run.

    Every rank makes the same calls in the same order.

    Args:
        run: folder of the run.
        keep: number of complete checkpoints to keep, at least 1.
    """

    def __init__(self, run: Path, *, keep: int) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, expected at least 1")
        self._folder = run / "checkpoints"
        self._keep = keep
        # A separate group: its calls come from another thread than those of the training step.
        group = dist.new_group(backend="gloo")
        assert isinstance(group, dist.ProcessGroup)
        self._group = group
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._complete: deque[Mapping[str, Any]] = deque()
        self._has_failed = False

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: Optimizer,
        meta: Mapping[str, Any],
        *,
        wait: bool = False,
    ) -> ExactcptError | None:
        """Copies the state and returns; the files are written in the background.

        A disk that is full for a while must not end a run: if the checkpoint before this one could
        not be written, this one is tried. Two failures in a row are an error.

        Args:
            step: names the checkpoint. One that exists already is left as it is.
            model: sharded or not.
            optimizer: of the model's parameters.
            meta: what `read_meta` will return, as JSON values; that of rank 0 is written.
            wait: whether to return only when the checkpoint is complete.

        Returns:
            The failure of the checkpoint before, or None.

        Raises:
            ExactcptError: the two checkpoints before could not be written, or, with `wait`, this
                one.
        """
        failure = self.settle()
        if failure is not None and self._has_failed:
            raise failure
        self._has_failed = failure is not None
        path = self._folder / _name(step)
        partial = path.with_name(path.name + PARTIAL)
        if self._on_first_rank(lambda: self._begin(path, partial, meta)):
            weights, state = get_state_dict(model, optimizer)
            upload = async_save(
                {"model": weights, "optimizer": state},
                checkpoint_id=partial,
                process_group=self._group,
            )
            assert isinstance(upload, Future)
            self._pending = self._thread.submit(self._finish, upload, partial, path, meta)
        if wait:
            self.wait()
        return failure

    def wait(self) -> None:
        """Waits until the last checkpoint is complete on all ranks.

        Raises:
            ExactcptError: it could not be written.
        """
        failure = self.settle()
        if failure is not None:
            raise failure

    def settle(self) -> ExactcptError | None:
        """Waits for the last checkpoint on all ranks; returns its failure, or None."""
        if self._pending is None:
            return None
        error = self._pending.exception()
        self._pending = None
        return self._agreed(error)

    def close(self) -> None:
        """Completes the checkpoint that is being written, without asking the other ranks."""
        if self._pending is not None:
            self._pending.exception()

    def completed(self) -> list[Mapping[str, Any]]:
        """The metas of the checkpoints that were completed since the last call, on rank 0."""
        return [self._complete.popleft() for _ in range(len(self._complete))]

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return newest_checkpoint(self._folder.parent)

    def load(self, path: Path, model: nn.Module, optimizer: Optimizer | None) -> None:
        """Loads a checkpoint into a model and its optimizer.

        The optimizer keeps its settings, from which those of the checkpoint may differ.

        Args:
            path: the checkpoint.
            model: sharded or not.
            optimizer: of the model's parameters; None to load the weights alone.

        Raises:
            FormatError: the checkpoint cannot be read, or is of another model.
        """
        groups = [] if optimizer is None else optimizer.param_groups
        settings = [{name: group[name] for name in group.keys() - {"params"}} for group in groups]
        if optimizer is None:
            state: dict[str, Any] = {"model": get_model_state_dict(model)}
        else:
            weights, optimizer_state = get_state_dict(model, optimizer)
            state = {"model": weights, "optimizer": optimizer_state}
        _load(state, path, self._group)
        if optimizer is None:
            set_model_state_dict(model, state["model"])
        else:
            set_state_dict(
                model,
                optimizer,
                model_state_dict=state["model"],
                optim_state_dict=state["optimizer"],
            )
            for group, own in zip(optimizer.param_groups, settings, strict=True):
                group.update(own)

    def _begin(self, path: Path, partial: Path, meta: Mapping[str, Any]) -> bool:
        if path.exists():
            return False
        for stale in self._folder.glob(f"*{PARTIAL}"):
            shutil.rmtree(stale)
        partial.mkdir(parents=True)
        with (partial / META).open("w", encoding="utf-8") as file:
            json.dump(meta, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        return True

    def _finish(
        self, upload: Future[Any], partial: Path, path: Path, meta: Mapping[str, Any]
    ) -> None:
        upload.result()
        if dist.get_rank() != 0:
            return
        _sync_folder(partial)
        partial.rename(path)
        _sync_folder(self._folder)
        self._complete.append(meta)
        for old in complete_checkpoints(self._folder.parent)[: -self._keep]:
            # It loses its name first: a half-removed checkpoint must not look complete.
            shutil.rmtree(old.rename(old.with_name(old.name + PARTIAL)))

    def _on_first_rank(self, action: Callable[[], bool]) -> bool:
        """Calls a function on rank 0 and returns its result, or raises its error, on all ranks."""
        result, error = False, None
        if dist.get_rank() == 0:
            try:
                result = action()
            except OSError as caught:
                error = caught
        failure = self._agreed(error)
        if failure is not None:
            raise failure
        told = [result]
        dist.broadcast_object_list(told, src=0, group=self._group)
        return told[0]

    def _agreed(self, error: BaseException | None) -> ExactcptError | None:
        """Waits for all ranks; if one of them failed, returns its error on all."""
        reasons: list[str | None] = [None] * dist.get_world_size()
        dist.all_gather_object(reasons, error and _reason(error), group=self._group)
        for rank, reason in enumerate(reasons):
            if reason:
                failure = ExactcptError(
                    f"the checkpoint could not be written on rank {rank}: {reason}",
                    where=str(self._folder),
                    fix="earlier checkpoints are intact; free some space or name another folder",
                )
                failure.__cause__ = error  # as `raise ... from` would, for --debug
                return failure
        return None


def complete_checkpoints(run: Path) -> list[Path]:
    """A run's complete checkpoints, oldest first."""
    folder = run / "checkpoints"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if re.fullmatch(r"step-\d{8,}", path.name))


def newest_checkpoint(run: Path) -> Path | None:
    """A run's newest complete checkpoint, or None."""
    return next(reversed(complete_checkpoints(run)), None)


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads a checkpoint's weights into a model that is not sharded; needs no process group.

    Raises:
        FormatError: the checkpoint cannot be read, or is of another model.
    """
    _load({"model": model.state_dict()}, path, None)


def _load(state: dict[str, Any], path: Path, group: dist.ProcessGroup | None) -> None:
    """Fills the tensors of `state` from a checkpoint."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")
            stored = FileSystemReader(path).read_metadata()
            load(state, checkpoint_id=path, process_group=group, no_dist=group is None)
    except (
        CheckpointException, OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError
    ) as error:  # fmt: skip
        raise FormatError(
            f"the checkpoint cannot be loaded: {_reason(error)}", where=str(path), fix=REMOVE
        ) from error
    # Tensors that the model lacks are not asked for, so nothing else would notice them.
    saved = {name for name in stored.state_dict_metadata if name.startswith("model.")}
    left = sorted(saved - {f"model.{name}" for name in state["model"]})
    if left:
        raise FormatError(
            f"the checkpoint is of another model: it has {plural(len(left), 'tensor')} that this "
            f"model lacks, the first is {left[0].removeprefix('model.')}",
            where=str(path),
            fix="give the model that the checkpoint was saved from",
        )


def read_meta(path: Path) -> dict[str, Any]:
    """Reads the state of the loop from a checkpoint.

    Returns:
        The numbers of the `step` and of the `windows` that are done; the run's `identity`,
        `settings` and `stretches`; and `earlier`, the record of the run its weights came from.

    Raises:
        FormatError: the file is missing or damaged.
    """
    try:
        meta = parse_json(read_regular(path / META))
        require(meta, META_FIELDS)
        if path.name != _name(meta["step"]) or meta["windows"] < 0:
            raise ValueError(
                f"it is of step {meta['step']} after {plural(meta['windows'], 'window')}"
            )
    except (OSError, ValueError) as error:
        raise FormatError(
            f"the checkpoint's {META} cannot be read: {_reason(error)}",
            where=str(path),
            fix=REMOVE,
        ) from None
    return meta


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _reason(error: BaseException) -> str:
    """The last line of an error; in the errors of torch it has the cause."""
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
