"""A Hugging Face causal language model made ready for training on packed windows.

`build` makes it (and refuses what would leak between documents), `TrainModel` is one forward pass
from a batch to its share of the step's loss, `parallelize` spreads it over ranks.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...schemas.errors import FormatError, UsageError
from . import attention
from .loss import IGNORE, next_position, shift, weighted_cross_entropy
from .positions import ROPE_TYPES, fit_window, override_rope

__all__ = ["TrainModel", "bucket_count", "build", "check_config", "parallelize"]

MODEL_TYPES = ("llama", "qwen2", "qwen3")

SHAPES = 64
"""Batches of as many shapes can be compiled: of training and of each eval set, its last too."""

WEIGHT_TYPES = (torch.float32, torch.float64)


class TrainModel(nn.Module):
    """A causal language model whose forward ends with the loss.

    The loss belongs into the forward of the outermost module: there, and only there,
    `lm_head.weight` is whole under FSDP2.

    Attributes:
        causal_lm: the Hugging Face model, with fp32 weights.
        backend: which of `attention.BACKENDS` it uses.
    """

    def __init__(self, causal_lm: PreTrainedModel, backend: str) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.backend = backend
        causal_lm.set_attn_implementation(attention.register(backend))

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor,
        labels: Tensor,
        loss_weights: Tensor,
        denominator: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One micro-batch of B windows of L tokens.

        Args:
            input_ids: integers [B, L].
            position_ids: integers [B, L]: places inside the segment, from 0.
            cu_seqlens: int32 [n + 1]: where segments begin in the flattened batch, and B * L.
            labels: int64 [B, L], unshifted, -100 where unsupervised.
            loss_weights: fp32 [B, L], unshifted.
            denominator: fp32 or fp64 scalar: D of the whole step (see `loss`).

        Returns:
            The micro-batch's share of the step's loss; fp64 [4, buckets] of sums over the
            supervised targets of each effective-context bucket: ce, targets, w, w * ce; and [B] the
            sum of ce of every window. The last two have no gradient.
        """
        if loss_weights.dtype not in WEIGHT_TYPES:
            raise TypeError(f"loss_weights are {loss_weights.dtype}, expected torch.float32")
        hidden = self._hidden(input_ids, position_ids, cu_seqlens)
        targets, weights = shift(labels, loss_weights)
        exact = torch.promote_types(hidden.dtype, torch.float32)
        loss, ce = weighted_cross_entropy(
            hidden.flatten(0, 1),
            self.causal_lm.lm_head.weight,
            targets.flatten(),
            (weights.double() / denominator).to(exact).flatten(),
        )
        ce = ce.view_as(targets)
        contexts = next_position(position_ids, 0)
        return loss, _sums_by_bucket(ce, targets, weights, contexts), ce.sum(dim=1)

    def _hidden(self, input_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor) -> Tensor:
        # Windows have any number of segments: one graph for all of them. The longest segment is
        # given as L for the same reason.
        torch._dynamo.maybe_mark_dynamic(cu_seqlens, 0)
        boundaries: dict[str, Any] = {"cu_seqlens": cu_seqlens, "max_seqlen": input_ids.shape[1]}
        if self.backend == "flex":
            boundaries["block_mask"] = attention.flex_mask(cu_seqlens, *input_ids.shape)
        output = self.causal_lm.base_model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False, **boundaries
        )
        return output.last_hidden_state


def bucket_count(window: int) -> int:
    """Effective-context buckets of a window: [0, 7], [8, 15], [16, 31], ... up to window - 1."""
    return max(0, (window - 1).bit_length() - 3) + 1


def _sums_by_bucket(ce: Tensor, targets: Tensor, weights: Tensor, contexts: Tensor) -> Tensor:
    """All [B, L], of the position that predicts; fp64 [4, buckets]."""
    count = bucket_count(ce.shape[1])
    # Made on the device: a copy from the host would wait for all that the device has to do.
    edges = 8 * 2 ** torch.arange(count - 1, device=ce.device)
    buckets = torch.bucketize(contexts.long(), edges, right=True)
    ce, weights = ce.detach().double(), weights.double()
    rows = torch.stack([ce, torch.ones_like(ce), weights, weights * ce])
    rows = rows.masked_fill(targets == IGNORE, 0).flatten(1)
    return rows.new_zeros(4, count).index_add_(1, buckets.flatten(), rows)


def build(
    source: Path | PreTrainedConfig,
    *,
    window: int,
    backend: str,
    rope_theta: float | None = None,
    yarn_factor: float | None = None,
    seed: int = 0,
) -> TrainModel:
    """Loads a model (or draws one from a configuration) with fp32 weights.

    Args:
        source: a Hugging Face directory, or a configuration for random weights.
        window: tokens of the longest window it will see.
        backend: of `attention.BACKENDS`.
        rope_theta: another base of the rotary embedding.
        yarn_factor: YaRN: stretches the model's positions by this factor.
        seed: of random weights.

    Raises:
        UsageError: the model cannot be trained without documents seeing each other, or not on
            windows of this length.
        FormatError: no model there, or its weights are not those that its configuration describes.
    """
    random = isinstance(source, PreTrainedConfig)
    config = type(source).from_dict(source.to_dict()) if random else _read_config(source)
    where = None if random else str(source)
    check_config(config, where=where)
    override_rope(config, rope_theta=rope_theta, yarn_factor=yarn_factor, where=where)
    fit_window(config, window, stretched=rope_theta is not None, where=where)
    name = attention.register(backend)
    logging.disable_progress_bar()  # a bar for each rank
    if random:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=name
        )
    else:
        model = _load(source, config, name)
    return TrainModel(model, backend)


def _load(directory: Path, config: PreTrainedConfig, attention_name: str) -> PreTrainedModel:
    """The model, every weight of it from the directory."""
    try:
        model, info = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            directory,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention_name,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # they are among the findings, and refused below
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise FormatError(
            f"the model's weights cannot be read: {str(error).strip().splitlines()[0]}",
            where=str(directory),
            expected="model.safetensors, or shards of it with their index",
        ) from error
    # Files of older versions have the rotary embedding's frequencies, which are computed.
    unexpected = [n for n in info["unexpected_keys"] if not n.endswith("rotary_emb.inv_freq")]
    mismatched = [f"{n} ({list(a)}, not {list(b)})" for n, a, b in info["mismatched_keys"]]
    findings = {
        "tensors that config.json describes are missing": info["missing_keys"],
        "tensors have another shape than config.json says": mismatched,
        "tensors that config.json has no place for": unexpected,
    }
    for found, names in findings.items():
        if names:
            raise FormatError(
                f"{found}: {_some(sorted(names))}",
                where=str(directory),
                expected="exactly the tensors of the model, each of its shape",
                fix="take config.json and weights from one model",
            )
    return model


def _some(names: Sequence[str]) -> str:
    """The first few of many."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _read_config(directory: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True)
    except (OSError, ValueError) as error:
        raise FormatError(
            f"no Hugging Face model: {str(error).splitlines()[0]}",
            where=str(directory),
            expected="a folder with config.json and model.safetensors",
        ) from error


def check_config(config: PreTrainedConfig, *, where: str | None = None) -> None:
    """Refuses what would let documents see each other, or change who sees whom.

    Raises:
        UsageError: another architecture, sliding windows, a rotary embedding that depends on the
            batch's length, or dropout.
    """
    layers = getattr(config, "layer_types", None) or ["full_attention"]
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    dropout = getattr(config, "attention_dropout", 0.0)
    if config.model_type not in MODEL_TYPES:
        found, expected = f"a model of type {config.model_type}", ", ".join(MODEL_TYPES)
    elif getattr(config, "use_sliding_window", False) or set(layers) != {"full_attention"}:
        found, expected = "a model with sliding-window layers", "full attention in every layer"
    elif rope_type not in ROPE_TYPES:
        found = f"rotary embedding of type {rope_type!r}, which depends on other documents' length"
        expected = ", ".join(ROPE_TYPES)
    elif dropout:
        found, expected = f"attention_dropout {dropout}", "0"
    else:
        return
    raise UsageError(found, where=where, expected=expected)


def parallelize(
    model: TrainModel,
    mesh: DeviceMesh,
    *,
    dtype: torch.dtype,
    checkpointing: bool = False,
    compiled: bool = False,
) -> None:
    """Shards the model over a mesh of one dimension, in place; one rank will do.

    Gradients are summed over the ranks, in fp32 at least, not averaged: the loss is divided by the
    step's D already.

    Args:
        model: with all its weights on every rank; its blocks go to the mesh's device one by one.
        mesh: of one dimension.
        dtype: of the computation; the sharded weights and the optimizer's state keep theirs.
        checkpointing: recompute each block's activations in the backward pass.
        compiled: compile each block.
    """
    policy = MixedPrecisionPolicy(
        param_dtype=dtype,
        reduce_dtype=torch.promote_types(dtype, torch.float32),
        cast_forward_inputs=False,  # it would round the loss weights
    )
    blocks = model.causal_lm.base_model.get_submodule("layers").children()
    modules = [*blocks, model]
    if compiled:
        torch._dynamo.config.recompile_limit = SHAPES
    for block in modules[:-1]:
        # A graph for each shape of batch: one for all of them, as soon as an eval set has another
        # shape than training, would be slower in every step.
        forward = torch.compile(block.forward, dynamic=False) if compiled else block.forward
        if checkpointing:
            forward = partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = forward
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in modules:
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it reduces
