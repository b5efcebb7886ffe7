"""The ranks of a run: how they start, add up, exchange, and fail together.

A single process is a world of one rank and runs the same code. Ranks exchange small facts here, on
the host, over gloo; gradients and weights travel separately, over the backend of the device.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from ...schemas.disk_errors import disk_error
from ...schemas.errors import ExactcptError, UsageError
from ...schemas.sizes import plural
from ..config import Ranks

__all__ = ["World", "joined"]

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among all processes of the run.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        device: where this process computes.
        local: number of this process among those on its machine, from 0.
    """

    rank: int
    size: int
    device: torch.device
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this rank prints and writes for all."""
        return self.rank == 0

    @property
    def is_first_here(self) -> bool:
        """Whether this rank reads for all ranks of its machine."""
        return self.local == 0

    def mesh(self, over: Ranks = "all") -> DeviceMesh:
        """The ranks as a mesh: all in one dimension, or machines by the ranks of each.

        Args:
            over: what weights are sharded over, the last dimension: the ranks of a machine, or
                all. It is all, too, if there is one machine, if each has one rank, or if machines
                differ in the number of their ranks.
        """
        here = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        alike = over == "node" and {*self.gather(here)} == {here}  # else ranks would differ in this
        if alike and 1 < here < self.size:
            shape, names = (self.size // here, here), ("replicate", "shard")
        else:
            shape, names = (self.size,), ("shard",)
        return init_device_mesh(self.device.type, shape, mesh_dim_names=names)

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
        """Calls a function on every rank; an error of one ends all, so that none waits.

        The function must not wait for other ranks itself.
        """
        outcome: T | None = None
        error: Exception | None = None
        try:
            outcome = work()
        except Exception as caught:
            error = caught
        told = self.gather(self._told(error))
        if error is not None and not isinstance(error, ExactcptError):
            raise error
        first = next((each for each in told if each is not None), None)
        if first is not None:
            self.fail(first)
        return outcome  # type: ignore[return-value]

    def _told(self, error: Exception | None) -> ExactcptError | None:
        """What the other ranks learn of an error of this one."""
        if error is None or isinstance(error, ExactcptError):
            return error
        if isinstance(error, OSError):
            told = disk_error(error)
            return ExactcptError(
                f"rank {self.rank} failed: {told.found}", where=told.where, fix=told.fix
            )
        return ExactcptError(
            f"rank {self.rank} failed: {type(error).__name__}: {error}",
            fix=f"see what rank {self.rank} has printed",
        )

    def first(self, work: Callable[[], T]) -> T:
        """Calls a function on the first rank; returns its result, or raises its error, on all."""
        mine = self.together(lambda: work() if self.is_first else None)
        return self.gather(mine)[0]  # type: ignore[return-value]

    @contextmanager
    def agreed(self) -> Iterator[None]:
        """A block in which all ranks raise the same `ExactcptError`, or none: one reports it."""
        try:
            yield
        except ExactcptError as error:
            self.fail(error)

    def fail(self, error: ExactcptError) -> NoReturn:
        """Ends all ranks with an error they share: the first raises it, the others only exit."""
        if self.is_first:
            raise error
        raise SystemExit(error.exit_code)


@contextmanager
def joined(device: str) -> Iterator[World]:
    """Joins the ranks that torchrun started, or makes a world of one.

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
                expected=f"at most {plural(torch.cuda.device_count(), 'rank')} on this machine",
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
        yield World(rank=dist.get_rank(), size=dist.get_world_size(), device=place, local=local)
    finally:
        dist.destroy_process_group()
