"""The micro-batches of a rank in the order of the run; other processes can read them ahead."""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from ...schemas.errors import ExactcptError
from .batches import ShardDataset
from .micro_batch import Batch
from .mixing import Mix
from .order import windows_at

__all__ = ["MicroBatchOrder", "MicroBatches", "loaded_batches"]

BLOCK = 1024
"""Number of places in the order that are computed at once, at least."""

OF_THE_RANK = frozenset({signal.SIGINT, signal.SIGTERM})
"""Signals that a terminal or torchrun sends to all processes of a rank, and the rank answers."""


class MicroBatches(Dataset[Batch | Exception]):
    """Micro-batches as a data set, for a DataLoader with `batch_size=None` and an order.

    An error that a person can act on takes the place of its batch: a DataLoader would put the
    traceback of its worker into the text.
    """

    def __init__(self, windows: ShardDataset) -> None:
        self._windows = windows

    def __getitem__(self, indices: Sequence[int]) -> Batch | Exception:
        try:
            return self._windows.batch(indices)
        except (ExactcptError, OSError) as error:
            return error


@dataclass(frozen=True, kw_only=True)
class MicroBatchOrder(Sampler[list[int]]):
    """The numbers of the windows in each micro-batch of a rank.

    A step takes the next `global_batch` windows of the order. Each rank gets a run of
    consecutive ones, and takes `micro_batch` of them at a time.

    Attributes:
        n: number of windows of the set.
        seed: of the order.
        consumed: number of windows that earlier steps have taken.
        steps: number of steps to come.
        global_batch: windows per step; a multiple of world * micro_batch.
        micro_batch: windows that a rank processes at a time.
        rank, world: number of this process, and number of processes.
        mix: the order of a mix of sets, in the place of `n` and `seed`; None for one set.
    """

    n: int
    seed: int
    consumed: int
    steps: int
    global_batch: int
    micro_batch: int
    rank: int = 0
    world: int = 1
    mix: Mix | None = None

    def __len__(self) -> int:
        return self.steps * (self.global_batch // (self.world * self.micro_batch))

    def __iter__(self) -> Iterator[list[int]]:
        share = self.global_batch // self.world
        within = self.rank * share + np.arange(share)
        at_once = -(-BLOCK // share)
        for first in range(0, self.steps, at_once):
            steps = np.arange(first, min(first + at_once, self.steps))
            positions = self.consumed + steps[:, None] * self.global_batch + within
            if self.mix is None:
                windows = windows_at(positions.ravel(), self.n, self.seed)
            else:
                windows = self.mix.windows_at(positions.ravel())
            for micro_batch in windows.reshape(-1, self.micro_batch):
                yield micro_batch.tolist()


@contextmanager
def loaded_batches(
    windows: ShardDataset, order: MicroBatchOrder, *, workers: int, pin_memory: bool
) -> Iterator[Iterator[Batch]]:
    """Yields an iterator over micro-batches in an order. The workers end with the block.

    Args:
        windows: the data set to read.
        order: the windows of each micro-batch.
        workers: processes that read ahead; 0 to read a batch when it is asked for.
        pin_memory: whether batches are put into page-locked memory.

    Raises:
        FormatError, OSError: when it reads, as `ShardDataset`.
    """
    if not workers:
        yield _read(windows, order, pin_memory)
        return
    loader = DataLoader(
        MicroBatches(windows),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        # A fork would copy the threads' locks of gloo and CUDA; a fork server would die of the
        # signals that are sent to all processes of a rank.
        multiprocessing_context="spawn",
        worker_init_fn=_ignore_signals,
        pin_memory=pin_memory,
    )
    # Workers begin with the blocked signals of this thread: none dies while it still imports.
    resource_tracker.ensure_running()  # it would unblock them when it starts
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, OF_THE_RANK)
    try:
        found: Any = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    try:
        yield _raised(found)
    finally:
        # Left to the garbage collector, workers outlive an error whose traceback still holds them.
        # The interpreter would terminate them as it ends, which they ignore, and wait for ever.
        found._shutdown_workers()


def _read(windows: ShardDataset, order: MicroBatchOrder, pin_memory: bool) -> Iterator[Batch]:
    """Yields the batches as they are asked for. A DataLoader would take half as long again."""
    for indices in order:
        batch = windows.batch(indices)
        yield batch.pin_memory() if pin_memory else batch


def _raised(found: Iterator[Batch | Exception]) -> Iterator[Batch]:
    """Yields the batches; raises an error that takes the place of one."""
    for each in found:
        if isinstance(each, Exception):
            raise each
        yield each


def _ignore_signals(_: int) -> None:
    """A worker ends with its rank, which needs it until it has stopped in good order."""
    for number in OF_THE_RANK:
        signal.signal(number, signal.SIG_IGN)
