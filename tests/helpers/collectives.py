"""Counts what ranks tell each other: the collective operations of torch.distributed."""

from collections import Counter
from typing import Any

from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Collectives"]


class Collectives(TorchDispatchMode):
    """A block whose collectives are counted, of every group and of every library that calls them.

    Attributes:
        counts: by the name of the operation. `c10d.allreduce_` is a sum that the program asks for,
            `_c10d_functional.all_reduce` one of a DTensor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if DTensor in types:  # what it does with its parts comes by again
            return NotImplemented
        if function.namespace in ("c10d", "_c10d_functional"):
            self.counts[str(function.overloadpacket)] += 1
        return function(*args, **(kwargs or {}))
