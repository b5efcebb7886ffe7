"""The ranks of a run: how they start, add up, exchange, and fail together.

A process alone is a world of one rank: the same code runs there. What ranks tell each other here
are small facts on the host, over gloo; gradients and weights travel by themselves, over the
device's own backend.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ...schemas.errors import ExactcptError, UsageError

__all__ = ["World", "joined"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the others.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        device: what it computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank speaks and writes for all."""
        return self.rank == 0

    def mesh(self) -> DeviceMesh:
        """All ranks in one dimension."""
        return init_device_mesh(self.device.type, (self.size,))

    def sum(self, *values: float) -> list[float]:
        """Sums over all ranks, in float64: exact for whole numbers below 2^53."""
        if self.size == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return summed.tolist()

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, work: Callable[[], T]) -> T:
        """Does something on every rank; an error of one is raised on all, so that none waits."""
        outcome: T | None = None
        error: ExactcptError | None = None
        try:
            outcome = work()
        except ExactcptError as caught:
            error = caught
        first = next((e for e in self.gather(error) if e is not None), None)
        if first is not None:
            self.fail(first)
        return outcome  # type: ignore[return-value]

    def first(self, work: Callable[[], T]) -> T:
        """Does something on the first rank and tells the others what came of it, or raises."""
        mine = self.together(lambda: work() if self.is_first else None)
        return self.gather(mine)[0]  # type: ignore[return-value]

    def fail(self, error: ExactcptError) -> NoReturn:
        """Ends all ranks with an error they share: the first raises it, the others say nothing."""
        if self.is_first:
            raise error
        raise SystemExit(error.exit_code)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Joins the ranks that torchrun has started, or makes a world of one.

    Args:
        device: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        UsageError: there is no CUDA device for this rank.
    """
    kind = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    local = int(os.environ.get("LOCAL_RANK", 0))
    if kind == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"there is no CUDA device for local rank {local}",
                expected=f"at most {torch.cuda.device_count()} ranks on this machine",
                fix="start fewer processes, or train with --device cpu",
            )
        torch.cuda.set_device(local)
    backend = "cpu:gloo,cuda:nccl" if kind == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend)
    else:
        store = dist.HashStore()  # pyright: ignore[reportPrivateImportUsage]
        dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        place = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=place)
    finally:
        dist.destroy_process_group()
