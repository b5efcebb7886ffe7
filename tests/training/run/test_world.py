"""What the ranks tell each other of an error; and what each of them raises."""

import errno
import os

import pytest
import torch

from exactcpt.training.run.world import World


def fail() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there")


def test_a_disk_that_fails_on_one_rank():
    """It raises the error as it is; the others tell what it was, and what helps."""
    world = World(rank=1, size=1, device=torch.device("cpu"))
    with pytest.raises(OSError, match="No space left on device"):
        world.together(fail)
    told = world._told(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "there"))
    assert str(told) == (
        "rank 1 failed: reading or writing failed: No space left on device\n"
        "  where:    there\n"
        "  fix:      make room there, and run the same command again"
    )
