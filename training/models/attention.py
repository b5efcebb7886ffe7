"""Causal attention in which a token sees only its own segment.

Hugging Face models guess where documents end from `position_ids`, masks or caches, and some of
their guesses silently let documents see each other. Here nothing is guessed. The boundaries are
given with the call,

    cu_seqlens    int32 [n + 1]: where each segment begins in the batch flattened to B * L tokens,
                  and B * L
    max_seqlen    at least the number of tokens of the longest segment: an int, or `as_length` of it
    block_mask    made by `flex_mask` from the boundaries, for `flex` only

as keywords of the model's forward, which passes them to the attention function. Anything else that
would change which tokens see each other (a mask, a cache, a sliding window, dropout) is refused.

    varlen    torch's variable-length flash attention: CUDA, fp16 and bf16
    flex      flex_attention with a block mask: CUDA; on a CPU forward only
    cpu       torch's flash attention for CPUs, segment by segment
    exact     plain softmax, segment by segment: any device, any type; the reference for the others
"""

import inspect
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface

from ...schemas.errors import UsageError
from .autocast import operands

__all__ = [
    "BACKENDS",
    "FUNCTIONS",
    "as_length",
    "check_head_size",
    "default_backend",
    "flex_mask",
    "register",
]

QUERY_BLOCK = 512
"""Number of queries whose scores exist at the same time in `exact`."""

LEAST_LENGTH = 128
"""The least `max_seqlen` that kernels are told: they take as many queries at a time anyway, and for
some smaller numbers they are written differently."""


def default_backend(device: str) -> str:
    """The backend for a type of device: `varlen` for "cuda", `cpu` for "cpu", else `exact`."""
    return {"cuda": "varlen", "cpu": "cpu"}.get(device, "exact")


def register(backend: str) -> str:
    """Registers a backend with transformers.

    Returns:
        The `attn_implementation` to ask for.

    Raises:
        UsageError: the backend is unknown.
    """
    if backend not in BACKENDS:
        raise UsageError(
            f"unknown attention backend {backend!r}", expected=f"one of {', '.join(BACKENDS)}"
        )
    name = f"exactcpt_{backend}"
    AttentionInterface.register(name, partial(_attend, FUNCTIONS[backend]))
    # Without a mask function, transformers silently drops a mask that was passed in.
    AttentionMaskInterface.register(name, _refuse_mask)
    return name


def flex_mask(cu_seqlens: Tensor, batch: int, length: int) -> BlockMask:
    """Makes the block mask of B windows of L tokens from their boundaries [n + 1]."""
    places = torch.arange(batch * length, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    segment = torch.bucketize(places, cu_seqlens, right=True).view(batch, length)

    def sees(window: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (segment[window, query] == segment[window, key])

    return _mask_maker(cu_seqlens.device.type)(
        sees, batch, None, length, length, device=cu_seqlens.device
    )


@cache
def _mask_maker(device: str) -> Callable[..., BlockMask]:
    # Uncompiled, it first makes a dense mask of L x L.
    return torch.compile(create_block_mask) if device == "cuda" else create_block_mask


def check_head_size(backend: str, size: int | None, *, where: str | None) -> None:
    """Checks that a backend's kernel takes heads of a size.

    Args:
        backend: one of `BACKENDS`.
        size: dimension of a head; None if the model does not say.
        where: where the model says so, for errors.

    Raises:
        UsageError: it does not.
    """
    if size is None:
        return
    if backend == "varlen" and (size % 8 or size > 256):
        expected, other = "a multiple of 8, at most 256", "flex"
    elif backend == "flex" and size < 16:
        expected, other = "at least 16", "exact"
    else:
        return
    raise UsageError(
        f"the model has attention heads of size {size}",
        where=where,
        expected=f"{expected}, for attention {backend!r}",
        fix=f"--attention {other}",
    )


def as_length(longest: int, like: Tensor) -> Tensor:
    """The length of the longest segment, as that of a tensor without memory of its own.

    A kernel starts work for every query up to that length in every segment, and most of it is in
    vain if the length is always the window's. But a graph is compiled again for another int, and
    not for a tensor of another length.

    Args:
        longest: number of tokens of the longest segment, or more.
        like: a tensor on the device.
    """
    length = like.new_empty(1).expand(max(longest, LEAST_LENGTH))
    torch._dynamo.maybe_mark_dynamic(length, 0)
    return length


def _refuse_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> None:
    if attention_mask is not None:
        raise ValueError("an attention mask was passed in, but cu_seqlens keep documents apart")


def _refuse_settings(dropout: float, sliding_window: int | None) -> None:
    if dropout:
        raise ValueError(f"attention dropout is {dropout}, expected 0")
    if sliding_window is not None:
        raise ValueError(f"a layer has a sliding window of {sliding_window}, expected none")


def _attend(
    function: Callable[..., Tensor],
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    *,
    scaling: float,
    dropout: float = 0.0,
    cu_seqlens: Tensor | None = None,
    max_seqlen: int | Tensor | None = None,
    block_mask: BlockMask | None = None,
    sliding_window: int | None = None,
    use_cache: bool | None = False,
    **_: Any,
) -> tuple[Tensor, None]:
    """Called by transformers: query [B, H, L, D], key and value [B, H_kv, L, D] to [B, L, H, D]."""
    _refuse_mask(attention_mask=attention_mask)
    _refuse_settings(dropout, sliding_window)
    if cu_seqlens is None or max_seqlen is None:
        raise ValueError(
            "no cu_seqlens and max_seqlen were passed in: documents would not be kept apart"
        )
    if use_cache or key.shape[2] != query.shape[2]:
        raise ValueError("a key-value cache is in use; call the model with use_cache=False")
    # Under autocast, the rotation leaves queries and keys in fp32, while values are in bf16.
    query, key, value = operands(query, key, value)
    with torch.autocast(query.device.type, enabled=False):
        output = function(
            query,
            key,
            value,
            scaling=scaling,
            cu_seqlens=cu_seqlens,
            max_seqlen=max_seqlen,
            block_mask=block_mask,
        )
    return output, None


def _flat(heads: Tensor) -> Tensor:
    """[B, H, L, D] to [B * L, H, D]."""
    return heads.transpose(1, 2).flatten(0, 1)


def _windows(flat: Tensor, like: Tensor) -> Tensor:
    """[B * L, H, D] to [B, L, H, D], with B and L of [B, H, L, D]."""
    return flat.unflatten(0, (like.shape[0], like.shape[2]))


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    cu_seqlens: Tensor,
    max_seqlen: int | Tensor,
    block_mask: BlockMask | None,
) -> Tensor:
    longest = max_seqlen.shape[0] if isinstance(max_seqlen, Tensor) else max_seqlen
    options: dict[str, Any] = {}
    if _VARLEN_GROUPS:
        options["enable_gqa"] = key.shape[1] != query.shape[1]
    else:
        repeats = query.shape[1] // key.shape[1]
        key, value = (heads.repeat_interleave(repeats, dim=1) for heads in (key, value))
    output = varlen_attn(
        _flat(query),
        _flat(key),
        _flat(value),
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        scale=scaling,
        window_size=(-1, 0),  # causal
        **options,
    )
    assert isinstance(output, Tensor)
    return _windows(output, query)


_VARLEN_GROUPS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""Whether keys may have fewer heads than queries; torch 2.11 does not allow it."""


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    cu_seqlens: Tensor,
    max_seqlen: int | Tensor,
    block_mask: BlockMask | None,
) -> Tensor:
    if block_mask is None:
        raise ValueError("no block_mask was passed in; make it with flex_mask")
    output = _flex_function()(
        query,
        key,
        value,
        block_mask=block_mask,
        scale=scaling,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(output, Tensor)
    return output.transpose(1, 2).contiguous()


def _flex_function() -> Callable[..., Any]:
    return flex_attention if torch.compiler.is_compiling() else _compiled_flex()


@cache
def _compiled_flex() -> Callable[..., Any]:
    # Uncompiled, it makes all scores, without its own kernel.
    return torch.compile(flex_attention)


def _cpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    cu_seqlens: Tensor,
    max_seqlen: int | Tensor,
    block_mask: BlockMask | None,
) -> Tensor:
    repeats = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(repeats, dim=1) for heads in (key, value))
    flat, _ = flash_attention(_flat(query), _flat(key), _flat(value), cu_seqlens, scaling)
    return _windows(flat, query)


# Custom operators: the loop over segments depends on data, and a compiled graph must not.
@torch.library.custom_op("exactcpt::flash_attention", mutates_args=())
def flash_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    """Attention, segment by segment, on a CPU: query, key and value [T, H, D].

    Returns:
        The output [T, H, D] and, for the backward pass, the logarithm of each softmax's
        denominator [T, H].
    """
    output, denominators = torch.empty_like(query), _denominators(query)
    for segment in _segments(cu_seqlens, len(key)):
        heads = (_heads(tensor[segment]) for tensor in (query, key, value))
        attended, denominator = _FLASH(*heads, 0.0, True, scale=scaling)
        output[segment] = attended[0].transpose(0, 1)
        denominators[segment] = denominator[0].transpose(0, 1)
    # The kernel takes a row of scores that are no numbers for one without keys, and gives 0.
    output += (query * key).sum(dim=-1, keepdim=True) * 0
    return output, denominators


@flash_attention.register_fake
def _(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scaling: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), _denominators(query)


@torch.library.custom_op("exactcpt::flash_attention_backward", mutates_args=())
def flash_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    denominators: Tensor,
    cu_seqlens: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, in their shapes."""
    gradients = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
    tensors = (gradient, query, key, value, output, denominators)
    for segment in _segments(cu_seqlens, len(key)):
        heads = (_heads(tensor[segment]) for tensor in tensors)
        for whole, part in zip(
            gradients, _FLASH_BACKWARD(*heads, 0.0, True, scale=scaling), strict=True
        ):
            whole[segment] = part[0].transpose(0, 1)
    return gradients


@flash_attention_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    denominators: Tensor,
    cu_seqlens: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save_for_flash_backward(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]
) -> None:
    *tensors, cu_seqlens, ctx.scaling = inputs
    ctx.save_for_backward(*tensors, *output, cu_seqlens)


def _flash_backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    gradients = flash_attention_backward(gradient, *ctx.saved_tensors, ctx.scaling)
    return (*gradients, None, None)


flash_attention.register_autograd(_flash_backward, setup_context=_save_for_flash_backward)

_FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _denominators(query: Tensor) -> Tensor:
    """An empty [T, H], in the type in which flash attention adds."""
    return torch.empty(
        query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32), device=query.device
    )


def _heads(segment: Tensor) -> Tensor:
    """[n, H, ...] to [1, H, n, ...]."""
    return segment.transpose(0, 1)[None]


def _exact(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scaling: float,
    cu_seqlens: Tensor,
    max_seqlen: int | Tensor,
    block_mask: BlockMask | None,
) -> Tensor:
    flat = segment_attention(_flat(query), _flat(key), _flat(value), cu_seqlens, scaling)
    return _windows(flat, query)


@torch.library.custom_op("exactcpt::segment_attention", mutates_args=())
def segment_attention(
    query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scaling: float
) -> Tensor:
    """Softmax attention, segment by segment: query [T, H, D], key and value [T, H_kv, D]."""
    output = torch.empty_like(query)
    for segment in _segments(cu_seqlens, len(key)):
        keys, values = _exact_heads(key, segment), _exact_heads(value, segment)
        for rows, block in _query_blocks(query, segment, keys):
            attention = _softmax(block, keys, rows.start - segment.start, scaling)
            output[rows] = _join(attention @ values[:, None, : attention.shape[-1]])
    return output


@segment_attention.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, cu_seqlens: Tensor, scaling: float) -> Tensor:
    return torch.empty_like(query)


@torch.library.custom_op("exactcpt::segment_attention_backward", mutates_args=())
def segment_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, in their shapes.

    With P the attention, O = P V, S = scaling Q K^T and G = dO: dV = P^T G, dP = G V^T,
    dS = P (dP - rowsum(dP P)), dQ = scaling dS K, dK = scaling dS^T Q.
    """
    query_gradient = torch.empty_like(query)
    key_gradient, value_gradient = torch.zeros_like(key), torch.zeros_like(value)
    for segment in _segments(cu_seqlens, len(key)):
        keys, values = _exact_heads(key, segment), _exact_heads(value, segment)
        key_sum, value_sum = torch.zeros_like(keys), torch.zeros_like(values)
        for rows, block in _query_blocks(query, segment, keys):
            attention = _softmax(block, keys, rows.start - segment.start, scaling)
            seen = attention.shape[-1]
            outer = _split(gradient[rows], len(keys)).to(keys.dtype)
            value_sum[:, :seen] += (attention.transpose(-1, -2) @ outer).sum(dim=1)
            change = outer @ values[:, None, :seen].transpose(-1, -2)
            change = attention * (change - (change * attention).sum(dim=-1, keepdim=True)) * scaling
            query_gradient[rows] = _join(change @ keys[:, None, :seen])
            key_sum[:, :seen] += (change.transpose(-1, -2) @ block).sum(dim=1)
        key_gradient[segment] = key_sum.transpose(0, 1)
        value_gradient[segment] = value_sum.transpose(0, 1)
    return query_gradient, key_gradient, value_gradient


@segment_attention_backward.register_fake
def _(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    scaling: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.scaling = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    gradients = segment_attention_backward(gradient, *ctx.saved_tensors, ctx.scaling)
    return (*gradients, None, None)


segment_attention.register_autograd(_backward, setup_context=_save_for_backward)


def _segments(cu_seqlens: Tensor, tokens: int) -> Iterator[slice]:
    """Yields the place of every segment that has tokens."""
    edges = cu_seqlens.tolist()
    if edges[0] != 0 or edges[-1] != tokens or edges != sorted(edges):
        raise ValueError(
            f"cu_seqlens do not rise from 0 to {tokens}, the number of tokens of the batch"
        )
    return (slice(start, stop) for start, stop in pairwise(edges) if stop > start)


def _exact_heads(flat: Tensor, segment: slice) -> Tensor:
    """A segment's keys or values [H_kv, n, D], in fp32 or fp64."""
    exact = torch.promote_types(flat.dtype, torch.float32)
    return flat[segment].to(exact).transpose(0, 1)


def _query_blocks(query: Tensor, segment: slice, keys: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yields places and queries [H_kv, H / H_kv, m, D] of a segment, in the type of the keys."""
    for start in range(segment.start, segment.stop, QUERY_BLOCK):
        rows = slice(start, min(start + QUERY_BLOCK, segment.stop))
        yield rows, _split(query[rows], len(keys)).to(keys.dtype)


def _split(heads: Tensor, groups: int) -> Tensor:
    """[m, H, D] to [groups, H / groups, m, D]."""
    return heads.transpose(0, 1).unflatten(0, (groups, -1))


def _join(grouped: Tensor) -> Tensor:
    """[groups, H / groups, m, D] to [m, H, D]."""
    return grouped.flatten(0, 1).transpose(0, 1)


def _softmax(queries: Tensor, keys: Tensor, first: int, scaling: float) -> Tensor:
    """Attention of a segment's queries from `first` on, over the keys up to the last of them."""
    seen = first + queries.shape[-2]
    scores = queries @ keys[:, None, :seen].transpose(-1, -2) * scaling
    later = torch.ones(queries.shape[-2], seen, dtype=torch.bool, device=scores.device).triu(
        first + 1
    )
    return scores.masked_fill_(later, float("-inf")).softmax(dim=-1)


FUNCTIONS = {"varlen": _varlen, "flex": _flex, "cpu": _cpu, "exact": _exact}
"""The attention function of each backend."""

BACKENDS = tuple(FUNCTIONS)
