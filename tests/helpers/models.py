"""Tiny models and packed batches for the tests of `training`."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)

from exactcpt.training.models.attention import register
from exactcpt.training.models.loss import IGNORE

IDS = 307

CONFIGS = {
    "llama": LlamaConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "mistral": MistralConfig,
    "olmo2": Olmo2Config,
    "smollm3": SmolLM3Config,
}
KINDS = tuple(CONFIGS)
OWN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": None},
    "smollm3": {"no_rope_layers": [1, 0]},
}
"""What a kind needs: no window that it has by itself, one layer without positions."""


def tiny_config(kind: str = "llama", **changes: Any) -> PreTrainedConfig:
    """Two layers, four heads over two groups; weights large enough for attention to matter."""
    settings: dict[str, Any] = {
        "vocab_size": IDS,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
        "attention_dropout": 0.0,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    return CONFIGS[kind](**(settings | OWN.get(kind, {}) | changes))


def packed(
    windows: Sequence[Sequence[int]], *, seed: int = 0, padded: bool = False
) -> dict[str, Tensor]:
    """A batch from the segment lengths of each window; with `padded` the last ones are padding."""
    draw = torch.Generator().manual_seed(seed)
    length = sum(windows[0])
    ids = torch.randint(0, IDS, (len(windows), length), generator=draw)
    positions = torch.tensor([[p for n in lengths for p in range(n)] for lengths in windows])
    weights = 0.5 + torch.rand(len(windows), length, generator=draw)
    unsupervised = positions == 0
    if padded:
        for row, lengths in enumerate(windows):
            unsupervised[row, length - lengths[-1] :] = True
    flat = torch.tensor([0, *(n for lengths in windows for n in lengths)])
    return {
        "input_ids": ids,
        "position_ids": positions,
        "cu_seqlens": flat.cumsum(0).int(),
        "labels": ids.masked_fill(unsupervised, IGNORE),
        "loss_weights": weights.masked_fill(unsupervised, 0),
    }


def documents(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Every segment of a batch as a batch of its own."""
    edges = batch["cu_seqlens"].tolist()
    return [
        {
            "cu_seqlens": torch.tensor([0, stop - start], dtype=torch.int32),
            **{
                name: values.flatten()[start:stop].unsqueeze(0)
                for name, values in batch.items()
                if name != "cu_seqlens"
            },
        }
        for start, stop in pairwise(edges)
    ]


def causal_lm(backend, kind="llama", dtype=torch.float32, **changes):
    """A tiny model with an attention backend, without what training adds."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        tiny_config(kind, **changes), attn_implementation=register(backend), dtype=dtype
    )


def hidden(model, batch, **more):
    """The states of a batch after the last layer, [B, L, H]."""
    boundaries = {"cu_seqlens": batch["cu_seqlens"], "max_seqlen": batch["input_ids"].shape[1]}
    return model.base_model(
        input_ids=batch["input_ids"],
        position_ids=batch["position_ids"],
        **{"use_cache": False, **boundaries, **more},
    ).last_hidden_state
