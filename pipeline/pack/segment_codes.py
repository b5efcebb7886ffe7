"""The weight codes of segments that lie end to end."""

import numpy as np
from numpy.typing import NDArray

from ..core.buckets import context_codes
from ..files.slices import Slices

__all__ = ["SegmentCodes"]


class SegmentCodes:
    """The weight codes of segments: those of the contexts 0, 1, 2, ..., and 0 in padding."""

    def __init__(self, window: int) -> None:
        self._codes = Slices([context_codes(window), np.zeros(window, np.uint8)])

    def of(self, lengths: NDArray[np.integer], is_padding: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """The codes of segments that lie end to end, shape [sum of lengths]; not writable.

        Args:
            lengths: of the segments in tokens, each in 1..window; shape [segments].
            is_padding: which of them are padding; shape [segments].
        """
        return self._codes.join(
            is_padding.astype(np.int64), np.zeros(len(lengths), np.int64), lengths
        )
