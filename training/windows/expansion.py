"""What a model takes, made on its device from ids, codes and boundaries.

Four bytes of an id and one of a code are all that a token has to bring. Its label, its weight and
its position follow from them and from where the segments begin, so that they are not sent:

    labels          the ids, where the code is not 0
    loss_weights    looked up by code, and by the length of the segment
    position_ids    places in the batch, minus where the segment of each begins

No shape depends on the values of a tensor, so nothing waits for the device.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...schemas import shard
from ..models.loss import IGNORE
from .micro_batch import Batch
from .weighting import Weighting

__all__ = ["Expander", "ModelInputs"]


class ModelInputs(NamedTuple):
    """B windows of L tokens, in the order in which a `TrainModel` takes them.

    Attributes:
        input_ids: int32 [B, L].
        position_ids: int32 [B, L], from 0 in every segment, runs of padding included.
        cu_seqlens: int32 [segments + 1]: where each segment begins in the flattened B * L
            positions, and B * L.
        labels: int64 [B, L]; `IGNORE` where there is no target.
        loss_weights: float32 [B, L]; 0 where there is no target.
    """

    input_ids: Tensor
    position_ids: Tensor
    cu_seqlens: Tensor
    labels: Tensor
    loss_weights: Tensor


class Expander:
    """Makes the inputs of a model from the batches of a weighting.

    Args:
        weighting: that of the batches.
        device: where the batches are, and the tables of the weights from now on.
    """

    def __init__(self, weighting: Weighting, device: torch.device) -> None:
        def moved(table: NDArray[np.float32]) -> Tensor:
            return torch.from_numpy(table).to(device)

        segments = weighting.of_segments
        self._by_code = moved(weighting.by_code)
        self._of_segments = segments and (moved(segments.has), moved(segments.by_length))

    def __call__(self, batch: Batch) -> ModelInputs:
        """The inputs of a model for a batch on the device."""
        ids, codes, cu_seqlens = batch.input_ids, batch.codes, batch.cu_seqlens
        lengths = cu_seqlens.diff()
        begins = _spread(cu_seqlens[:-1], lengths, ids.numel())
        places = torch.arange(ids.numel(), dtype=torch.int32, device=ids.device)
        return ModelInputs(
            input_ids=ids,
            position_ids=places.sub_(begins).view_as(ids),
            cu_seqlens=cu_seqlens,
            labels=ids.long().masked_fill_(codes == shard.UNSUPERVISED, IGNORE),
            loss_weights=self._weights(codes.flatten().int(), lengths).view_as(ids),
        )

    def _weights(self, codes: Tensor, lengths: Tensor) -> Tensor:
        """The weights of all tokens of a batch, laid end to end."""
        weights = self._by_code.index_select(0, codes)
        if self._of_segments is None:
            return weights
        has, by_length = self._of_segments
        own = by_length.index_select(0, lengths)
        return weights + has.index_select(0, codes) * _spread(own, lengths, len(codes))


def _spread(of_segments: Tensor, lengths: Tensor, tokens: int) -> Tensor:
    """A value of each segment, at all of its tokens.

    The number of tokens is known here. Without it, the device would be asked, and waited for.
    """
    return torch.repeat_interleave(of_segments, lengths, output_size=tokens)
