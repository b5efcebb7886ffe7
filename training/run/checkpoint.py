"""Checkpoints of a run: complete or absent, written while training continues.

    RUN/checkpoints/step-00000100/           a complete checkpoint; see `checkpoint_files`
    RUN/checkpoints/step-00000200.partial/   one that is being written, or the remains of one

All ranks write a checkpoint under a name that nobody reads; rank 0 renames it when it has seen the
files of every rank. Only then are older checkpoints removed. So the newest complete checkpoint is
usable at every moment, even after SIGKILL. Weights and optimizer are stored as tensors of the whole
model: any number of ranks can read them.
"""

import errno
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_state_dict,
    set_model_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.optim import Optimizer

from ...schemas.disk import make_folder, sync_folder
from ...schemas.errors import ExactcptError
from .checkpoint_files import (
    Written,
    check_files,
    checkpoint_name,
    complete_checkpoints,
    describe,
    newest_checkpoint,
    write_meta,
)
from .checkpoint_reader import INDEX, CheckpointReader, last_line, load_tensors
from .checkpoint_writer import CheckpointWriter
from .folder import PATIENCE

__all__ = ["CheckpointManager", "Completed", "load_weights"]

T = TypeVar("T")

PARTIAL = ".partial"
INTACT = "earlier checkpoints are intact"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Completed(NamedTuple):
    """A checkpoint that was completed: its meta, and the seconds from the call that saved it."""

    meta: Mapping[str, Any]
    seconds: float


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
        self._complete: deque[Completed] = deque()
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
        began = time.monotonic()
        path = self._folder / checkpoint_name(step)
        partial = path.with_name(path.name + PARTIAL)
        if self._on_first_rank(lambda: self._begin(path, partial)):
            weights, state = get_state_dict(model, optimizer)
            upload = async_save(
                {"model": weights, "optimizer": state},
                checkpoint_id=partial,
                storage_writer=CheckpointWriter(partial),
                process_group=self._group,
            )
            assert isinstance(upload, Future)
            self._pending = self._thread.submit(self._finish, upload, partial, path, meta, began)
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

    def tidy(self) -> None:
        """Removes what a killed run has left here, on one rank; no checkpoint may be on its way.

        Raises:
            OSError: it cannot be removed.
        """
        self._remove_partial()
        self._remove_old()

    def completed(self) -> list[Completed]:
        """The checkpoints that were completed since the last call, on rank 0."""
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
            FormatError: the checkpoint cannot be read, was altered, or is of another model.
        """
        reader = self._together(lambda: _checked(path, dist.get_rank(), dist.get_world_size()))
        groups = [] if optimizer is None else optimizer.param_groups
        settings = [{name: group[name] for name in group.keys() - {"params"}} for group in groups]
        if optimizer is None:
            state: dict[str, Any] = {"model": get_model_state_dict(model)}
        else:
            weights, optimizer_state = get_state_dict(model, optimizer)
            state = {"model": weights, "optimizer": optimizer_state}
        load_tensors(state, reader, self._group)
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

    def _begin(self, path: Path, partial: Path) -> bool:
        if path.exists():
            return False
        make_folder(self._folder)
        self._remove_partial()
        partial.mkdir()
        return True

    def _finish(
        self,
        upload: Future[Any],
        partial: Path,
        path: Path,
        meta: Mapping[str, Any],
        began: float,
    ) -> None:
        """Waits until every rank has written its files; rank 0 then completes the checkpoint."""
        try:
            written = self._written(upload, partial)
            if dist.get_rank() == 0:
                self._complete_with(written, partial, path, meta)
                self._complete.append(Completed(meta, time.monotonic() - began))
                self._remove_old()
        finally:
            if dist.get_rank() == 0:
                shutil.rmtree(partial, ignore_errors=True)  # of a failure: its room is needed

    def _written(self, upload: Future[Any], partial: Path) -> list[list[Written]]:
        """The files that each rank has written; of no use if one of them failed."""
        ours: list[Written] = []
        try:
            upload.result()
            ours = [describe(file) for file in partial.glob(f"__{dist.get_rank()}_*")]
        finally:  # also with an error: the others wait for this rank
            found = self._gather(ours)
        return found

    def _complete_with(
        self,
        written: list[list[Written]],
        partial: Path,
        path: Path,
        meta: Mapping[str, Any],
    ) -> None:
        for rank, files in enumerate(written):
            for file in files:
                _await_file(partial / file["name"], file["bytes"], rank)
        files = [file for of_rank in written for file in of_rank]
        left = CheckpointReader(partial).names - {file["name"] for file in files}
        if left:
            raise ExactcptError(f"no rank has written {', '.join(sorted(left))}")
        write_meta(partial, meta, [*files, describe(partial / INDEX)])
        partial.rename(path)
        sync_folder(self._folder)

    def _remove_old(self) -> None:
        for old in complete_checkpoints(self._folder.parent)[: -self._keep]:
            # It loses its name first: a half-removed checkpoint must not look complete.
            shutil.rmtree(old.rename(old.with_name(old.name + PARTIAL)))

    def _remove_partial(self) -> None:
        for stale in self._folder.glob(f"*{PARTIAL}"):
            shutil.rmtree(stale)

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
        return self._gather(result)[0]

    def _together(self, work: Callable[[], T]) -> T:
        """Calls a function on every rank; an error of one is raised on all, so that none waits."""
        outcome: T | None = None
        error: ExactcptError | None = None
        try:
            outcome = work()
        except ExactcptError as caught:
            error = caught
        for first in self._gather(error):
            if first is not None:
                raise first
        return outcome  # type: ignore[return-value]

    def _agreed(self, error: BaseException | None) -> ExactcptError | None:
        """Waits for all ranks; if one of them failed to save, returns its error on all."""
        failures = self._gather(None if error is None else self._failure(error))
        found = next((each for each in failures if each is not None), None)
        if found is not None:
            found.__cause__ = error  # as `raise ... from` would, for --debug
        return found

    def _failure(self, error: BaseException) -> ExactcptError:
        """What a person is told of a checkpoint that this rank could not save."""
        fix = error.fix if isinstance(error, ExactcptError) else None
        if fix is None and _is_full(error):
            fix = "free some space or name another folder"
        return ExactcptError(
            f"the checkpoint could not be written on rank {dist.get_rank()}: "
            f"{error.found if isinstance(error, ExactcptError) else last_line(error)}",
            where=str(self._folder),
            fix=f"{INTACT}; {fix}" if fix else INTACT,
        )

    def _gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on every rank."""
        values: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(values, value, group=self._group)
        return values


def _await_file(path: Path, size: int, rank: int) -> None:
    """Waits until a file that a rank wrote is seen here.

    Raises:
        ExactcptError: it is not, or not all of it.
    """
    end = time.monotonic() + PATIENCE
    while not path.is_file() or path.stat().st_size != size:
        if time.monotonic() > end:
            raise ExactcptError(
                f"rank {rank} has written {path.name}, and rank 0 does not see it",
                fix="all ranks need one run folder, on a disk that their machines share",
            )
        time.sleep(0.1)


def _is_full(error: BaseException) -> bool:
    """Whether an error, or one that it gathers from the ranks, is of a disk without room."""
    if isinstance(error, CheckpointException):
        return any(_is_full(each) for each, _ in error.failures.values())
    if isinstance(error, RuntimeError):
        # PyTorch's writer forgets the system's error: it only tells that too little was written.
        return "inline_container" in str(error)
    return isinstance(error, OSError) and error.errno in FULL


def _checked(path: Path, rank: int = 0, world: int = 1) -> CheckpointReader:
    """A reader of a checkpoint whose files, or a rank's share of them, are intact."""
    check_files(path, rank, world)
    return CheckpointReader(path)


def load_weights(path: Path, model: nn.Module) -> None:
    """Loads a checkpoint's weights into a model that is not sharded; needs no process group.

    Raises:
        FormatError: the checkpoint cannot be read, was altered, or is of another model.
    """
    load_tensors({"model": model.state_dict()}, _checked(path), None)
