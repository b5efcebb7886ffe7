"""A device without memory left: what a person can change, by what the run has not changed yet."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...schemas.errors import ExactcptError
from ..config import TrainConfig
from .world import World

__all__ = ["memory_advice", "with_advice"]

ALLOCATOR = "PYTORCH_ALLOC_CONF=expandable_segments:True"
DETAILS = " If reserved but unallocated memory is large"
"""Where PyTorch's message turns from what was asked for to its allocator."""


@contextmanager
def with_advice(config: TrainConfig, world: World) -> Iterator[None]:
    """A block in which an error of a full device says what to change.

    Raises:
        ExactcptError: this rank's device has no memory left. The other ranks do not learn it:
            torchrun ends them.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        told = str(error).partition(DETAILS)[0]
        raise ExactcptError(
            f"rank {world.rank} has no memory left: {told}",
            fix="; ".join(memory_advice(config, world.size)),
        ) from error


def memory_advice(config: TrainConfig, world: int) -> list[str]:
    """What saves memory and is not done yet, the cheapest first.

    Args:
        config: the settings of the run.
        world: number of its ranks.
    """
    advice: list[str] = []
    if config.micro_batch > 1:
        advice.append(
            f"give a smaller --micro-batch than {config.micro_batch}, which changes no step"
        )
    if config.precision != "bf16":
        advice.append("compute in --precision bf16")
    if config.compile is False:
        advice.append("give --compile, which keeps less of each block")
    if config.reduce_once:
        advice.append("leave out --reduce-once, which needs room for the gradient of all weights")
    if config.keep_products:
        advice.append("leave out --keep-products, which keeps the most of each block")
    if not config.checkpoint_activations:
        advice.append(
            "give --checkpoint-activations, which keeps the least and takes a third longer"
        )
    ranks = "another" if world == 1 else f"more than {world}"
    advice.append(
        f"train on {ranks} {'GPU' if world == 1 else 'GPUs'}: each holds its share of weights and "
        "optimizer"
    )
    advice.append(f"set {ALLOCATOR} if little is missing")
    return advice
