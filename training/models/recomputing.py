"""Blocks whose activations are computed again in the backward pass, all of them or the cheap ones.

Most activations of a block are the results of norms, rotations and activation functions: large, and
quickly made again. The results of matrix products and of attention take nearly all of the time.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from .attention import flash_attention, segment_attention

__all__ = ["recomputed"]

Forward = Callable[..., Any]

KEPT: list[Any] = [
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.torch_attn._varlen_attn.default,
    flash_attention._opoverload,
    segment_attention._opoverload,
]
"""The operators whose results are kept. That of `flex` is not among them."""


def recomputed(forward: Forward, *, keeps_products: bool) -> Forward:
    """A block's forward pass that keeps its inputs, and of what it computes little or nothing.

    Args:
        forward: of the block.
        keeps_products: whether the results of matrix products and attention are kept.
    """
    more: dict[str, Any] = {}
    if keeps_products:
        # On every rank it asks for no operation in place inside. Blocks have none.
        logging.getLogger("torch._higher_order_ops.wrap").setLevel(logging.ERROR)
        more["context_fn"] = partial(create_selective_checkpoint_contexts, KEPT)
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False, **more)
