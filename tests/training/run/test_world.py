"""What the ranks tell each other of an error and what each raises; the mesh that they make."""

import errno
import os

import pytest
import torch

from exactcpt.training.run import world as module
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


@pytest.mark.parametrize(
    ("machines", "shape"),
    [((4, 4), (2, 4)), ((4, 2), (6,)), ((2, 1, 1), (4,)), ((4,), (4,)), ((1, 1), (2,))],
)
def test_all_ranks_make_one_mesh(machines, shape, monkeypatch):
    """Machines with other numbers of ranks have one dimension: their ranks could not agree."""
    made: list[tuple[int, ...]] = []
    here = [count for count in machines for _ in range(count)]
    monkeypatch.setattr(World, "gather", lambda *_: here)
    monkeypatch.setattr(module, "init_device_mesh", lambda _, size, **__: made.append(size))
    for rank, count in enumerate(here):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
        World(rank=rank, size=len(here), device=torch.device("cpu")).mesh("node")
    assert {*made} == {shape}
