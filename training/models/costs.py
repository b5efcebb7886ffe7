"""What training takes of a rank's memory, from a model's configuration alone: no weight is read.

    sharded       weights, gradients and AdamW's two means: each rank has a share of every tensor
    gathered      what a rank has of other ranks' weights for a moment, in the type of the
                  computation: embedding and head all the time, a block and the next one
    activations   what the forward pass keeps for the backward pass. It is counted: blocks are
                  traced without memory (FakeTensorMode), and every tensor that autograd saves is
                  noted
    loss          logits of a chunk of the kernel and their gradient, the head's gradient in fp32,
                  and that of the hidden states
    other         CUDA's context, NCCL, cuBLAS, what the allocator loses: an assumption

The peak is where the forward pass ends and the loss is computed. A checkpoint is staged in the
memory of the host.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from . import attention
from .loss import KERNEL_CHUNK

__all__ = ["Memory", "activations", "memory_of", "outline", "sharded"]

OTHER = 2 * 10**9
"""Bytes of a GPU that are gone without a tensor. Assumed, not measured."""

COMPILED = 0.71
"""Share of a block's activations that its compiled form keeps: counted in the partitioned graphs of
blocks of Qwen2.5-0.5B and Llama-3.2-3B, in PyTorch 2.13."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of one rank, by kind; see the module.

    Attributes:
        staging: of the host, while a checkpoint is written.
    """

    parameters: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    loss: int
    other: int
    staging: int

    @property
    def total(self) -> int:
        """Bytes of the device at the peak."""
        sharded = self.parameters + self.gradients + self.optimizer
        return sharded + self.gathered + self.activations + self.loss + self.other


def outline(config: PreTrainedConfig) -> PreTrainedModel:
    """A model of the configuration, of tensors without memory."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)


def sharded(model: nn.Module, ranks: int) -> int:
    """Entries of the weights that the rank with the most of them holds.

    FSDP2 gives every rank equally many rows of each tensor, and pads the last one's.
    """
    return sum(-(-len(p) // ranks) * (p.numel() // len(p)) for p in model.parameters())


def memory_of(
    model: PreTrainedModel,
    *,
    windows: int,
    length: int,
    ranks: int,
    dtype: torch.dtype,
    checkpointing: bool = False,
    compiled: bool = False,
    whole_gradient: bool = False,
) -> Memory:
    """The memory of a rank in training.

    Args:
        model: as `outline` makes it.
        windows: of a micro-batch.
        length: of a window, in tokens.
        ranks: number of ranks that the weights are sharded over.
        dtype: of the computation.
        checkpointing: whether blocks are computed again in the backward pass.
        compiled: whether blocks are compiled.
        whole_gradient: whether each rank holds the gradient of all weights.
    """
    config: Any = model.config
    exact = torch.promote_types(dtype, torch.float32).itemsize
    own = exact * sharded(model, ranks)
    steps = 4 * sum(1 for _ in model.parameters())
    blocks: Any = model.base_model.get_submodule("layers")
    block = sum(p.numel() for p in blocks[0].parameters())
    others = sum(p.numel() for p in model.parameters()) - block * len(blocks)
    rest, each = activations(config, windows=windows, length=length, dtype=dtype)
    each = round(each * COMPILED) if compiled else each
    inputs = windows * length * config.hidden_size * dtype.itemsize
    kept = each + inputs * len(blocks) if checkpointing else each * len(blocks)
    head = config.vocab_size * config.hidden_size
    logits = min(KERNEL_CHUNK, windows * length) * config.vocab_size
    of_loss = logits * (exact + dtype.itemsize) + head * (exact + dtype.itemsize) + inputs
    return Memory(
        parameters=own,
        gradients=exact * (block * len(blocks) + others) if whole_gradient else own,
        optimizer=2 * own + steps,
        gathered=dtype.itemsize * (others + 2 * block),
        activations=rest + kept,
        loss=of_loss,
        other=OTHER,
        staging=3 * own + steps,
    )


def activations(
    config: PreTrainedConfig, *, windows: int, length: int, dtype: torch.dtype
) -> tuple[int, int]:
    """Bytes that the forward pass keeps: of all but the blocks, and of one block.

    Args:
        config: of the model.
        windows, length: of a micro-batch.
        dtype: of the computation.
    """
    one, two = (_saved(config, layers, (windows, length), dtype) for layers in (1, 2))
    return 2 * one - two, two - one


def _saved(
    config: PreTrainedConfig, layers: int, shape: tuple[int, int], dtype: torch.dtype
) -> int:
    """Bytes that a model of a few layers keeps for its backward pass, without its weights."""
    settings: dict[str, Any] = config.to_dict() | {"num_hidden_layers": layers}
    if settings.get("layer_types"):
        settings["layer_types"] = settings["layer_types"][:layers]
    cut = type(config).from_dict(settings)
    found: dict[int, Any] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage  # as an object, or another one could get its place
        return tensor

    with FakeTensorMode(), torch.device("cpu"):
        name = attention.register("varlen")
        model = AutoModelForCausalLM.from_config(cut, dtype=dtype, attn_implementation=name)
        weights = {p.untyped_storage()._cdata for p in model.parameters()}
        ids = torch.zeros(shape, dtype=torch.int64)
        positions = torch.arange(shape[1]).expand(shape)
        edges = torch.arange(shape[0] + 1, dtype=torch.int32) * shape[1]
        with saved_tensors_hooks(note, lambda tensor: tensor):
            model.base_model(
                input_ids=ids,
                position_ids=positions,
                use_cache=False,
                cu_seqlens=edges,
                max_seqlen=shape[1],
            )
        return sum(s.nbytes() for place, s in found.items() if place not in weights)
