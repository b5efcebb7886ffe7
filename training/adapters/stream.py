"""The windows of a shard set in the order of a run, endless, which can stop and go on anywhere.

Window number c of a run is a function of the seed and c alone (`windows.order`). The ranks take
turns: with R ranks, after `consumed` windows of all of them together, sample j of rank r is

    c = consumed + j R + r

So when every rank has taken n samples, they have together taken the next n R windows of the order,
and any other number of ranks can go on from there. With R = 1 it is the order of `exactcpt train`
with that seed; with more ranks, each of its steps has the same windows.

A DataLoader asks its workers in turn for one batch each. So worker w of W takes the samples j with
(j // batch_size) % W == w, and the loader yields them all, in order.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch.distributed as dist
from torch.utils.data import IterableDataset, get_worker_info

from ...schemas.errors import UsageError
from ..windows.batches import ShardDataset
from ..windows.order import windows_at

__all__ = ["WindowStream"]

BLOCK = 1024
"""Number of samples whose windows are computed at once, at most."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    """The samples of one iterator: those of a rank, or of one DataLoader worker of it.

    Attributes:
        rank, world: number of this rank, and number of ranks.
        worker, workers: number of this worker of the rank, and number of its workers.
        batch_size: number of samples that a worker takes at a time.
    """

    rank: int
    world: int
    worker: int
    workers: int
    batch_size: int

    def places(self, first: int, count: int) -> np.ndarray:
        """How many windows of the order precede each of these samples: int64 [count]."""
        own = np.arange(first, first + count)
        turn, within = np.divmod(own, self.batch_size)
        of_rank = (turn * self.workers + self.worker) * self.batch_size + within
        return of_rank * self.world + self.rank


class WindowStream(IterableDataset[dict[str, Any]]):
    """Samples of a `ShardDataset` without end; the loop that reads them ends.

    An iterator begins where the stream stands, and moves it. A DataLoader with worker processes
    moves copies: torchdata's StatefulDataLoader collects their states. With torch's DataLoader,
    keep count yourself, and go on with `consumed`.

    Args:
        windows: the data set.
        seed: of the order, at least 0.
        batch_size: that of the DataLoader; it matters only if the loader has workers.
        consumed: number of windows that all ranks together have taken before.
        rank, world: number of this process, and number of processes. By default those of
            torch.distributed, or of torchrun's environment, or a single process.

    Raises:
        UsageError: a number is out of its range.
    """

    def __init__(
        self,
        windows: ShardDataset,
        *,
        seed: int = 0,
        batch_size: int = 1,
        consumed: int = 0,
        rank: int | None = None,
        world: int | None = None,
    ) -> None:
        self.windows = windows
        self.seed = seed
        self.batch_size = batch_size
        self.rank, self.world = _ranks(rank, world)
        _check_least(0, seed=seed, consumed=consumed)
        _check_least(1, batch_size=batch_size)
        self._consumed = consumed  # before the share of which `_taken` samples were taken
        self._taken = 0
        self._share = self._own_share()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._take_share(self._own_share())
        n, start = len(self.windows), self._consumed
        at_once = min(BLOCK, n)  # every epoch has keys of its own, which take time
        while True:
            places = start + self._share.places(self._taken, at_once)
            for window in windows_at(places, n, self.seed):
                self._taken += 1
                yield self.windows[int(window)]

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: whole numbers and strings."""
        return {
            **self._order(),
            "consumed": self._consumed,
            "taken": self._taken,
            **asdict(self._share),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state. Of another number of ranks, that of any rank will do.

        Raises:
            UsageError: it is not of this shard set, split or seed.
        """
        own = self._order()
        other = {name: state.get(name) for name in own}
        if other != own:
            different = [name for name in own if own[name] != other[name]]
            raise UsageError(
                f"the state is of another order: {_said(other, different)}",
                expected=_said(own, different),
                where=str(self.windows.shards.root),
                fix="use the same shard set, split and seed, or start anew without the state",
            )
        self._consumed, self._taken = state["consumed"], state["taken"]
        self._share = _Share(**{field.name: state[field.name] for field in fields(_Share)})

    def _order(self) -> dict[str, Any]:
        """What the order of the windows depends on."""
        return {
            "shards": self.windows.shards.fingerprint,
            "split": self.windows.split,
            "seed": self.seed,
        }

    def _own_share(self) -> _Share:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return _Share(
            rank=self.rank,
            world=self.world,
            worker=worker,
            workers=workers,
            batch_size=self.batch_size,
        )

    def _take_share(self, own: _Share) -> None:
        """Goes on with this share, after the samples that were taken from another one."""
        if own == self._share:
            return
        if self._share.workers > 1:
            raise UsageError(
                "the state is of a DataLoader worker, and another process goes on with it: "
                f"{self._share}",
                expected=str(own),
                fix="keep the ranks, the workers and the batch size, or start a new stream with "
                "consumed=, the number of windows that all ranks have taken",
            )
        self._consumed += self._taken * self._share.world
        self._taken, self._share = 0, own


def _ranks(rank: int | None, world: int | None) -> tuple[int, int]:
    if (rank is None) != (world is None):
        raise UsageError("rank and world belong together", expected="both of them, or none")
    if rank is None or world is None:
        if dist.is_available() and dist.is_initialized():
            return dist.get_rank(), dist.get_world_size()
        # A trainer may join the ranks after its data set is made.
        rank, world = (int(os.environ.get(name, most)) for name, most in _ENVIRONMENT.items())
    if not 0 <= rank < world:
        raise UsageError(f"rank is {rank} of {world}", expected="0 <= rank < world")
    return rank, world


_ENVIRONMENT = {"RANK": 0, "WORLD_SIZE": 1}
"""What torchrun sets, and what it is for a process by itself."""


def _check_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise UsageError(f"{name} is {number}", expected=f"at least {least}")


def _said(values: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {values[name]}" for name in names)
