"""The loss on fixed windows: overall and by effective context, every target counted as 1."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ...schemas import shard
from ...schemas.shard_set import ShardSet, open_set
from ..config import TrainConfig
from ..windows.batches import ShardDataset
from ..windows.expansion import Expander
from ..windows.micro_batch import Batch
from ..windows.order import permuted
from .metrics import CE, TARGETS, bucket_losses
from .world import World

__all__ = ["EvalSet", "evaluate", "open_eval_sets"]

ORDER_SEED = 0
"""Seed of the choice of windows: runs with other seeds are evaluated on the same ones."""


@dataclass(frozen=True, kw_only=True)
class EvalSet:
    """A fixed set of windows to evaluate on.

    Attributes:
        name: its name in the log.
        windows: the validation split that the windows are from.
        numbers: numbers of the windows, in order.
        micro_batch: windows that a rank processes at a time.
    """

    name: str
    windows: ShardDataset
    numbers: tuple[int, ...]
    micro_batch: int

    @property
    def identity(self) -> dict[str, Any]:
        """The fields of a record that depend on the set and not on the model."""
        return {
            "name": self.name,
            "shards": self.windows.shards.fingerprint,
            "window": self.windows.window,
            "windows": len(self.numbers),
        }

    def batches(self, rank: int, world: int) -> Iterator[Batch]:
        """Yields a rank's micro-batches; as many on every rank, as the model's forward needs."""
        size = self.micro_batch
        groups = [self.numbers[i : i + size] for i in range(0, len(self.numbers), size)]
        for first in range(0, len(groups), world):
            if first + rank < len(groups):
                yield self.windows.batch(groups[first + rank])
            else:
                yield self.windows.batch(groups[first]).ignored()


def open_eval_sets(
    config: TrainConfig, shards: ShardSet, say: Callable[[str], None] | None = None
) -> list[EvalSet]:
    """Opens the sets of `eval`, or the validation split of the training set if it has one.

    Args:
        config: the settings of the run.
        shards: the training set.
        say: is told what is copied from a server.

    Raises:
        UsageError, IncompleteError, FormatError: as `ShardDataset`.
    """
    if not config.eval_every:
        return []
    if config.eval is None:
        own = shards.shards(shard.VALIDATION)
        return [_eval_set(shard.VALIDATION, shards, config, shards.window)] if own else []
    return [
        _eval_set(name, open_set(path, say), config, shards.window)
        for name, path in config.eval.items()
    ]


def _eval_set(name: str, shards: ShardSet, config: TrainConfig, trained: int) -> EvalSet:
    windows = ShardDataset(shards, split=shard.VALIDATION)
    count = min(len(windows), config.eval_windows)
    return EvalSet(
        name=name,
        windows=windows,
        numbers=tuple(permuted(np.arange(count), len(windows), ORDER_SEED).tolist()),
        micro_batch=max(1, config.micro_batch * trained // shards.window),
    )


@torch.no_grad()
def evaluate(
    model: nn.Module, eval_set: EvalSet, world: World, is_over: Callable[[], bool]
) -> dict[str, Any] | None:
    """Evaluates a model on a set of windows.

    Args:
        model: its forward is called equally often on all ranks.
        eval_set: the windows.
        world: the ranks.
        is_over: tells all ranks the same, before each batch: whether to give up.

    Returns:
        The log's record of the evaluation, without the step; None if it was given up.
    """
    model.eval()
    own = _sums(model, eval_set, world, is_over)
    model.train()
    if own is None:
        return None
    sums = np.array(world.sum(*own.flatten().tolist())).reshape(own.shape)
    targets = int(sums[TARGETS].sum())
    return {
        **eval_set.identity,
        "loss": float(sums[CE].sum() / max(targets, 1)),
        "targets": targets,
        "bucket_loss": bucket_losses(sums),
        "bucket_targets": sums[TARGETS].astype(np.int64).tolist(),
    }


def _sums(
    model: nn.Module, eval_set: EvalSet, world: World, is_over: Callable[[], bool]
) -> Any | None:
    """This rank's sums by bucket, fp64 [4, buckets]; None if it was given up."""
    one = torch.ones((), dtype=torch.float64, device=world.device)
    expand = Expander(eval_set.windows.weighting, world.device)
    total: Any = 0
    for host in eval_set.batches(world.rank, world.size):
        if is_over():
            return None
        _, sums, _ = model(*expand(host.to(world.device)), one, host.longest)
        total = total + sums
    return total
