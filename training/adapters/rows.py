"""Micro-batches as one row, for models whose attention takes the boundaries of documents.

B windows of L tokens become one row of B * L, and every segment a sequence of its own. The names
are those of transformers, for its flash attention; its other kinds of attention find the
boundaries in `position_ids`, but only without a mask and without a key-value cache. A cache is the
default, even in training, so the row says `use_cache`: False.

Labels and weights are unshifted, as everywhere here: entry j belongs to token j as a target. The
last token of a window would predict the first of the next one, but the first token of a segment is
never a target. So one shift of the whole row is a shift of every window.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad

from ..models.labels import WeightedLabels, plain

__all__ = ["flatten"]


def flatten(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Collates windows of a `ShardDataset` or a `WindowStream`.

    Returns:
        input_ids and position_ids int32 [1, B * L], loss_weights float32 [1, B * L], labels int64
        [1, B * L] (`WeightedLabels`); cu_seq_lens_q and cu_seq_lens_k int32 [segments + 1], where
        each segment begins in the row, and B * L; max_length_q and max_length_k: always L, so that
        nothing is compiled again for other segments; use_cache: False.
    """
    lengths = torch.cat([sample["seq_lengths"] for sample in samples])
    ends = pad(lengths.cumsum(0, dtype=torch.int32), (1, 0))
    longest = max(len(sample["input_ids"]) for sample in samples)
    return {
        "input_ids": _row(samples, "input_ids"),
        "position_ids": _row(samples, "position_ids"),
        "labels": WeightedLabels(_row(samples, "labels")),
        "loss_weights": _row(samples, "loss_weights"),
        "cu_seq_lens_q": ends,
        "cu_seq_lens_k": ends,
        "max_length_q": longest,
        "max_length_k": longest,
        "use_cache": False,
    }


def _row(samples: Sequence[dict[str, Any]], name: str) -> torch.Tensor:
    return torch.cat([plain(sample[name]) for sample in samples])[None]
