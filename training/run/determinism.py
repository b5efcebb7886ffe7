"""Runs whose figures are the same each time, bit by bit: PyTorch's deterministic algorithms.

On a GPU, the backward pass of attention and sums by index add in the order in which threads happen
to arrive. Their deterministic forms take longer. The same machine, program, number of ranks and
settings then give the same bits; another GPU or another version may not.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._inductor import config as inductor
from torch.utils import deterministic

from ...schemas.errors import UsageError

__all__ = ["determinism"]

memory: Any = deterministic  # its attributes are made when it is imported

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""Values with which cuBLAS adds in a fixed order, by its documentation; the first is the faster."""


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """A block that takes deterministic algorithms alone, if they are wanted.

    It must begin before CUDA is used: cuBLAS reads its environment variable when it starts. An
    operation that has no deterministic form raises a RuntimeError.

    Raises:
        UsageError: the variable has a value with which cuBLAS is not deterministic.
    """
    if not wanted:
        yield
        return
    workspace = os.environ.setdefault(CUBLAS, WORKSPACES[0])
    if workspace not in WORKSPACES:
        raise UsageError(
            f"the environment variable {CUBLAS} is {workspace!r}",
            expected=f"{' or '.join(WORKSPACES)}, with --deterministic",
            fix="unset it",
        )
    before = (
        torch.are_deterministic_algorithms_enabled(),
        inductor.deterministic,
        memory.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True)
    inductor.deterministic = True  # no choice of kernels by their measured time
    memory.fill_uninitialized_memory = False  # every value is written before it is read
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        inductor.deterministic, memory.fill_uninitialized_memory = before[1:]
