"""What `torch.autocast` does to a matrix product, for functions it knows nothing of."""

import torch
from torch import Tensor

__all__ = ["operands"]


def operands(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's type where it is on for their device; fp64 stays, as it does there.

    What is computed from them belongs under `torch.autocast(..., enabled=False)`: autocast would
    also round the products that are made in fp32 on purpose.
    """
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(one if one.dtype == torch.float64 else one.to(dtype) for one in tensors)
