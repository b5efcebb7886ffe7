"""A rank that has ended, as the others see it."""

import pytest
import torch
import torch.distributed as dist

from exactcpt.schemas.errors import ExactcptError
from exactcpt.training.run.lost_ranks import with_lost_ranks_told
from exactcpt.training.run.world import World

GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:48295."


def world(size: int) -> World:
    return World(rank=1, size=size, device=torch.device("cpu"))


@pytest.mark.parametrize("error", [RuntimeError(GLOO), dist.DistBackendError("NCCL error")])
def test_another_rank_has_ended(error):
    with pytest.raises(ExactcptError) as caught, with_lost_ranks_told(world(2)):
        raise error
    told = f"rank 1 waits for a rank that has ended or cannot be reached: {error}"
    assert caught.value.found == told
    assert "the same command continues the run" in (caught.value.fix or "")
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "size"),
    [(RuntimeError(GLOO), 1), (RuntimeError("shapes differ"), 2), (ValueError(GLOO), 2)],
)
def test_any_other_error_is_let_alone(error, size):
    with pytest.raises(type(error)) as caught, with_lost_ranks_told(world(size)):
        raise error
    assert caught.value is error
