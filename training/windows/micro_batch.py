"""A micro-batch as it is read and sent to a device."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch

__all__ = ["Batch"]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A micro-batch of B windows of L tokens, as it is read and sent to a device: 5 bytes a token.

    An `Expander` makes the labels, weights and positions of its tokens, on the device.

    Attributes:
        input_ids: int32 [B, L].
        codes: uint8 [B, L]; 0 where there is no target, else what its weight is looked up by.
        cu_seqlens: int32 [segments + 1]: where each segment begins in the flattened B * L
            positions, and B * L.
        longest: number of tokens of the longest segment.
        windows: number of each window in its split of the shard set, [B].
        digests: xxh3-64 of each window's number and input_ids, [B].
        tokens: number of tokens, without padding.
        targets: number of supervised targets.
        sum_w: sum of their weights, in float64.
        visible: how many tokens each token attends to, itself included, summed over all tokens.
    """

    input_ids: torch.Tensor
    codes: torch.Tensor
    cu_seqlens: torch.Tensor
    longest: int
    windows: tuple[int, ...]
    digests: tuple[int, ...]
    tokens: int
    targets: int
    sum_w: float
    visible: int

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its tensors on another device."""
        return self._with_tensors(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; called by a DataLoader."""
        return self._with_tensors(torch.Tensor.pin_memory)

    def ignored(self) -> "Batch":
        """The same windows without targets: they are computed like others, but count nothing."""
        return replace(self, codes=torch.zeros_like(self.codes), targets=0, sum_w=0.0)

    def _with_tensors(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Batch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.type is torch.Tensor}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})
