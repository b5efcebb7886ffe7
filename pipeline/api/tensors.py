"""Contexts and weights of tensors of PyTorch: on their device, and in one graph when compiled.

No shape here depends on the values of a tensor, and no value is looked at.
"""

import torch
from torch import Tensor

from ..core.exact import WeightTable

__all__ = ["effective_context", "weights"]


def effective_context(name: str, values: Tensor, tokens: int | None) -> Tensor:
    """As in `contexts`, for the argument of a name."""
    if values.is_floating_point() or values.dtype == torch.bool:
        raise ValueError(f"{name} is a tensor of {values.dtype}; expected: integers")
    if name == "position_ids":
        return values.to(torch.int64, copy=True)
    if values.ndim != 1:
        raise ValueError(f"{name} is of shape {tuple(values.shape)}; expected: one dimension")
    if tokens is None:
        raise ValueError(
            f"tokens is missing; expected: with a tensor of {name}, the length of the sequence"
        )
    ends = values.long().cumsum(0) if name == "seq_lengths" else values[1:].long()
    places = torch.arange(tokens, device=values.device)
    begun = torch.bucketize(places, ends, right=True)  # how many segments have ended
    starts = torch.cat([ends.new_zeros(1), ends])[begun]
    return torch.where(begun < len(ends), places - starts, 0)


def weights(table: WeightTable, name: str, values: Tensor, tokens: int | None) -> Tensor:
    """As in `contexts`, for the argument of a name."""
    contexts = effective_context(name, values, tokens)
    # The code of a context: 0 for context 0, else one more than its bucket.
    lows = torch.tensor([1, *(row.low for row in table.rows[1:])], device=values.device)
    codes = torch.bucketize(contexts, lows, right=True)
    of_codes = torch.tensor([0.0, *table.weights], dtype=torch.float32, device=values.device)
    return of_codes[codes]
