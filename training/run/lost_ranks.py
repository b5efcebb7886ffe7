"""A rank that has ended: what the others, which wait for it, tell a person."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist

from ...schemas.errors import ExactcptError
from .world import World

__all__ = ["with_lost_ranks_told"]

CLOSED = ("Connection closed by peer", "Connection reset by peer", "Broken pipe")
"""What gloo says when the process at the other end is gone."""


@contextmanager
def with_lost_ranks_told(world: World) -> Iterator[None]:
    """A block in which a lost connection to another rank is no error of this program.

    Raises:
        ExactcptError: another rank has ended, or cannot be reached any more.
    """
    try:
        yield
    except RuntimeError as error:
        if world.size == 1 or not _is_lost(error):
            raise
        raise ExactcptError(
            f"rank {world.rank} waits for a rank that has ended or cannot be reached: "
            f"{_last_line(error)}",
            fix="look for the rank that ended first, and why; the same command continues the run "
            "from its newest checkpoint",
        ) from error


def _last_line(error: RuntimeError) -> str:
    return next(reversed([line for line in str(error).splitlines() if line.strip()]), "no reason")


def _is_lost(error: RuntimeError) -> bool:
    if isinstance(error, dist.DistBackendError | dist.DistNetworkError):
        return True
    return any(text in str(error) for text in CLOSED)
