"""A Hugging Face causal language model made ready for training on packed windows.

`build` loads it and refuses whatever would leak between documents; the forward pass of `TrainModel`
goes from a batch to its share of the step's loss; `parallelize` spreads the model over the ranks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from ...schemas.errors import FormatError, UsageError
from . import attention
from .folder import check_type, read_config, slides
from .labels import WeightedLabels
from .loss import IGNORE, next_position, shift, weighted_cross_entropy
from .positions import ROPE_TYPES, fit_window, override_rope
from .recomputing import recomputed
from .weight_files import check_weights

__all__ = [
    "TrainModel",
    "bucket_count",
    "build",
    "check_config",
    "open_config",
    "parallelize",
    "reduce_at",
]

SHAPES = 64
"""Number of batch shapes that can be compiled: those of training and of each eval set, whose last
batch may be smaller."""

WEIGHT_TYPES = (torch.float32, torch.float64)


class TrainModel(nn.Module):
    """A causal language model whose forward ends with the loss.

    The loss belongs in the forward of the outermost module: only there is `lm_head.weight` whole
    under FSDP2.

    Attributes:
        causal_lm: the Hugging Face model, with fp32 weights.
        backend: name of its attention backend, one of `attention.BACKENDS`.
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
        labels: Tensor | WeightedLabels,
        loss_weights: Tensor,
        denominator: Tensor,
        max_seqlen: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Computes the loss of a micro-batch of B windows of L tokens.

        Args:
            input_ids: integers [B, L].
            position_ids: integers [B, L]: places inside the segment, from 0.
            cu_seqlens: int32 [n + 1]: where each segment begins in the flattened batch, and B * L.
            labels: int64 [B, L], unshifted, -100 where there is no target.
            loss_weights: fp32 [B, L], unshifted.
            denominator: fp32 or fp64 scalar: D of the whole step (see `loss`).
            max_seqlen: number of tokens of the longest segment, or more; None for L, with which
                attention is slower.

        Returns:
            The micro-batch's share of the step's loss; fp64 [4, buckets], the sums of ce, targets,
            w and w * ce over the supervised targets of each effective-context bucket; and [B], the
            sum of ce of each window. The last two have no gradient.
        """
        if loss_weights.dtype not in WEIGHT_TYPES:
            raise TypeError(f"loss_weights are {loss_weights.dtype}, expected torch.float32")
        hidden = self._hidden(input_ids, position_ids, cu_seqlens, max_seqlen)
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

    def _hidden(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int | None = None,
    ) -> Tensor:
        # Windows have any number of segments, and one graph must do for all of them.
        torch._dynamo.maybe_mark_dynamic(cu_seqlens, 0)
        longest = attention.as_length(max_seqlen or input_ids.shape[1], cu_seqlens)
        boundaries: dict[str, Any] = {"cu_seqlens": cu_seqlens, "max_seqlen": longest}
        if self.backend == "flex":
            boundaries["block_mask"] = attention.flex_mask(cu_seqlens, *input_ids.shape)
        output = self.causal_lm.base_model(
            input_ids=input_ids, position_ids=position_ids, use_cache=False, **boundaries
        )
        return output.last_hidden_state


def bucket_count(window: int) -> int:
    """Number of effective-context buckets of a window: 0-7, 8-15, 16-31, ... up to window - 1."""
    return max(0, (window - 1).bit_length() - 3) + 1


def _sums_by_bucket(ce: Tensor, targets: Tensor, weights: Tensor, contexts: Tensor) -> Tensor:
    """Sums over each bucket, fp64 [4, buckets]; all arguments are [B, L], shifted."""
    count = bucket_count(ce.shape[1])
    # Made on the device: a copy from the host would wait for all pending work of the device.
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
    empty: bool = False,
) -> TrainModel:
    """Loads a model with fp32 weights, or draws random ones for a configuration.

    Args:
        source: a Hugging Face folder, or a configuration for random weights.
        window: length of the longest window that the model will see, in tokens.
        backend: one of `attention.BACKENDS`.
        rope_theta: new base of the rotary embedding; None to keep the model's.
        yarn_factor: factor by which YaRN stretches the model's positions; None not to stretch them.
        seed: of the random weights.
        empty: whether to read and draw no weights. What is in them, and in the buffers, is then
            anything: `spreading.fill` gives them their values, from a rank that has them.

    Raises:
        UsageError: in this model documents would see each other, or the window is too long for it.
        FormatError: the folder has no model, or its weights do not match its configuration.
    """
    random = isinstance(source, PreTrainedConfig)
    config = type(source).from_dict(source.to_dict()) if random else open_config(source)
    where = None if random else str(source)
    check_config(config, where=where)
    override_rope(config, rope_theta=rope_theta, yarn_factor=yarn_factor, where=where)
    fit_window(config, window, stretched=rope_theta is not None, where=where)
    name = attention.register(backend)
    logging.disable_progress_bar()  # there would be one bar per rank
    logging.set_verbosity_error()  # what it warns of is refused below
    if empty:
        model = _without_values(config, name)
    elif random:
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=name, trust_remote_code=False
        )
    else:
        model = _load(source, config, name)
    return TrainModel(model, backend)


def _without_values(config: PreTrainedConfig, attention_name: str) -> PreTrainedModel:
    """A model whose tensors are memory that nobody has touched: an operating system gives none."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention_name, trust_remote_code=False
        )
    model.to_empty(device="cpu")
    model.tie_weights()  # what was one tensor has become two
    return model


def _load(directory: Path, config: PreTrainedConfig, attention_name: str) -> PreTrainedModel:
    """Loads the model, with every weight from the folder."""
    check_weights(directory)
    try:
        model, info = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            directory,
            config=config,
            dtype=torch.float32,
            attn_implementation=attention_name,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported in `info`, and refused below
            output_loading_info=True,
        )
    except Exception as error:  # the library trips over values that it does not check
        raise FormatError(
            f"the model cannot be loaded: {_first_line(error)}",
            where=str(directory),
            expected="config.json and weights of one model",
        ) from error
    # Files of older versions contain the frequencies of the rotary embedding, which are computed.
    unexpected = [n for n in info["unexpected_keys"] if not n.endswith("rotary_emb.inv_freq")]
    mismatched = [f"{n} ({list(a)}, not {list(b)})" for n, a, b in info["mismatched_keys"]]
    findings = {
        "the weights lack tensors that config.json describes": info["missing_keys"],
        "the weights have tensors of another shape than config.json says": mismatched,
        "the weights have tensors that config.json does not describe": unexpected,
    }
    for found, names in findings.items():
        if names:
            raise FormatError(
                f"{found}: {_some(sorted(names))}",
                where=str(directory),
                expected="exactly the tensors of the model, each in its shape",
                fix="use the config.json and the weights of one model",
            )
    if config.tie_word_embeddings and (
        model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    ):
        raise FormatError(
            "the weights have an lm_head.weight of their own, but config.json says that it is the "
            "input embedding (tie_word_embeddings)",
            where=str(directory),
            fix='if the model was trained that way, set "tie_word_embeddings": false',
        )
    return model


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _some(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def open_config(directory: Path) -> PreTrainedConfig:
    """Reads the configuration of a model that can be trained.

    Raises:
        UsageError, FormatError: as `read_config`; or transformers cannot make a model of it.
    """
    read_config(directory)
    try:
        return AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the library checks some values and trips over others
        raise FormatError(
            f"the folder has no Hugging Face model: {_first_line(error)}",
            where=str(directory),
            expected="a folder with config.json and model.safetensors",
        ) from error


def check_config(config: PreTrainedConfig, *, where: str | None = None) -> None:
    """Refuses models in which documents would see each other, or tokens not see their own.

    Args:
        config: of the model.
        where: the model's folder, for errors.

    Raises:
        UsageError: the model has another architecture, sliding windows, a rotary embedding that
            depends on the length of the batch, or dropout.
    """
    check_type(config.model_type, where=where)
    rope_type = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    dropout = getattr(config, "attention_dropout", 0.0)
    if slides(config):
        found, expected = "a model with sliding-window layers", "full attention in every layer"
    elif rope_type not in ROPE_TYPES:
        found = (
            f"a rotary embedding of type {rope_type!r}, which depends on the length of other "
            "documents"
        )
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
    keeps_products: bool = False,
    compiled: bool = False,
) -> None:
    """Shards the model over the ranks of a mesh, in place; one rank is enough.

    Gradients are summed over the ranks in fp32 or fp64, and not averaged: the loss is already
    divided by the step's D.

    Args:
        model: with all its weights on every rank; its blocks are moved to the mesh's device one by
            one.
        mesh: of one dimension; or of two, over whose first the weights are replicated and over
            whose second they are sharded (HSDP).
        dtype: type of the computation; the sharded weights and the optimizer keep theirs.
        checkpointing: whether to compute each block again in the backward pass.
        keeps_products: whether not to compute matrix products and attention again.
        compiled: whether to compile each block.
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
        # One graph per batch shape. A dynamic graph for all shapes, needed as soon as an eval set
        # has another shape than training, would be slower in every step.
        forward = block.forward
        if checkpointing and keeps_products:  # the compiler has to see what is kept
            forward = recomputed(forward, keeps_products=True)
        if compiled:
            forward = torch.compile(forward, dynamic=False)
        if checkpointing and not keeps_products:
            forward = recomputed(forward, keeps_products=False)
        block.forward = forward
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in modules:
        assert isinstance(module, FSDPModule)
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo cannot scale while it reduces


def reduce_at(model: nn.Module, *, last: bool, once: bool) -> None:
    """Says what the next backward pass does with its gradients besides adding them up.

    The last micro-batch of a step always reduces what there is. Before, gradients that are sharded
    but not summed over all replicas take no more room than those that are; gradients that are not
    sharded take as much as all weights do, in fp32.

    Args:
        model: a `TrainModel` that `parallelize` has spread.
        last: whether this is the last micro-batch of a step.
        once: whether the others reduce nothing.
    """
    assert isinstance(model, FSDPModule)
    model.set_requires_all_reduce(last)
    model.set_requires_gradient_sync(last or not once)
