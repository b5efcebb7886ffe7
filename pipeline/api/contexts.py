"""Effective contexts and weights of the tokens of windows that anybody packed.

Where the segments of a window begin is said in one of three ways, as packers and attention kernels
say it:

    seq_lengths     3 2 4                  the length of each segment
    cu_seqlens      0 3 5 9                where each segment begins, and where the last one ends
    position_ids    0 1 2 0 1 0 1 2 3      the position of each token in its segment

A position in a segment is an effective context: how many tokens of its own document a target sees.
The first token of a segment sees none, so it is no target, and its weight is 0. So is that of
padding, which is what follows the last segment. Padding that is a segment of its own, or has rising
positions, as between the windows of a batch, cannot be told from text: `mask` says where text is.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.exact import WeightTable

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = NDArray[Any] | torch.Tensor

__all__ = ["check_lengths", "effective_context", "weights"]

LONGEST = 1 << 40
"""Tokens of a sequence: more are a mistake."""


def effective_context(
    *,
    seq_lengths: "Array | Sequence[int] | None" = None,
    cu_seqlens: "Array | Sequence[int] | None" = None,
    position_ids: "Array | Sequence[int] | None" = None,
    tokens: int | None = None,
) -> Any:
    """The effective context of every token: how many tokens of its own document it can see.

    One of the first three arguments is given. Tensors of PyTorch give tensors on the same device;
    their values are not checked, since a check would wait for the device.

    Args:
        seq_lengths: lengths of the segments of one sequence of tokens, integers [segments].
        cu_seqlens: where they begin, from 0, and where the last one ends, integers [segments + 1].
        position_ids: the position of each token in its segment, integers [..., L].
        tokens: length of the sequence; None for that of its segments together. What is left after
            them is padding. Tensors need it; `position_ids` have a length of their own.

    Returns:
        int64, [tokens] or the shape of `position_ids`; 0 for the first token of a segment and for
        padding.

    Raises:
        ValueError: the argument does not describe segments, or is longer than `tokens`.
    """
    name, values = _given(tokens, seq_lengths, cu_seqlens, position_ids)
    if _is_tensor(values):
        from . import tensors

        return tensors.effective_context(name, values, tokens)
    if name == "position_ids":
        return _checked_positions(values)
    lengths = _lengths(name, np.asarray(values), tokens)
    total = int(lengths.sum(dtype=np.int64)) if tokens is None else tokens
    return _filled(lengths, total, np.arange(lengths.max(initial=0), dtype=np.int64))


def weights(
    *,
    table: WeightTable,
    seq_lengths: "Array | Sequence[int] | None" = None,
    cu_seqlens: "Array | Sequence[int] | None" = None,
    position_ids: "Array | Sequence[int] | None" = None,
    tokens: int | None = None,
    mask: "Array | Sequence[bool] | None" = None,
) -> Any:
    """The loss weight of every token as a target.

    `weights[j]` belongs to token j as the target that position j - 1 predicts. One of
    `seq_lengths`, `cu_seqlens` and `position_ids` is given. With tensors of PyTorch it compiles
    without a graph break; their values are not checked, since a check would wait for the device.

    Args:
        table: the weights of the corpus, from `weight_table`.
        seq_lengths: lengths of the segments of one window, integers [segments].
        cu_seqlens: where they begin, from 0, and where the last one ends, integers [segments + 1].
        position_ids: the position of each token in its segment, integers [..., L].
        tokens: length of the result; None for the window of the table. Several windows that lie
            end to end have more. Tensors need it; `position_ids` have a length of their own.
        mask: where there is text, in the shape of the result: the weight is 0 elsewhere. It is
            needed where padding is a segment or has rising positions; `labels != -100` will do.

    Returns:
        float32, [tokens] or the shape of `position_ids`; 0 for the first token of a segment and for
        padding.

    Raises:
        ValueError: the argument does not describe segments, a segment is longer than the window of
            the table, or all together are longer than `tokens`.
    """
    name, values = _given(tokens, seq_lengths, cu_seqlens, position_ids)
    if _is_tensor(values):
        from . import tensors

        found: Any = tensors.weights(table, name, values, tokens)
    elif name == "position_ids":
        found = _of_positions(table, values)
    else:
        found = _of_lengths(table, name, values, table.window if tokens is None else tokens)
    return found if mask is None else found * _checked_mask(mask, found)


def _of_positions(table: WeightTable, values: Any) -> NDArray[np.float32]:
    positions = _checked_positions(values)
    if positions.max(initial=0) >= table.window:
        raise ValueError(
            f"position_ids has {positions.max():,}; expected: less than the window of the "
            f"table, {table.window:,} tokens"
        )
    return table.by_context[positions]


def _of_lengths(table: WeightTable, name: str, values: Any, tokens: int) -> NDArray[np.float32]:
    lengths = _lengths(name, np.asarray(values), tokens)
    if tokens > table.window and lengths.max(initial=0) > table.window:
        raise ValueError(
            f"a segment has {lengths.max():,} tokens; expected: at most the window of the table, "
            f"{table.window:,}"
        )
    return _filled(lengths, tokens, table.by_context)


def _given(
    tokens: int | None, seq_lengths: Any, cu_seqlens: Any, position_ids: Any
) -> tuple[str, Any]:
    """The name and the value of the only argument that describes segments."""
    ways = {"seq_lengths": seq_lengths, "cu_seqlens": cu_seqlens, "position_ids": position_ids}
    given = [(name, values) for name, values in ways.items() if values is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ValueError(f"{names} given; expected: one of {', '.join(ways)}")
    if tokens is not None and (tokens < 0 or position_ids is not None):
        raise ValueError(f"tokens is {tokens}; expected: a length, with seq_lengths or cu_seqlens")
    return given[0]


def _is_tensor(values: Any) -> bool:
    torch: Any = sys.modules.get("torch")  # who has a tensor has imported it
    return torch is not None and isinstance(values, torch.Tensor)


def _lengths(name: str, values: NDArray[Any], tokens: int | None) -> NDArray[Any]:
    """The lengths of the segments of a sequence, checked, whichever way they are given."""
    if name == "cu_seqlens":
        if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or values[0] != 0:
            raise ValueError(
                f"cu_seqlens is {_shown(values)}; expected: integers that rise from 0, one more "
                "than there are segments"
            )
        values = np.diff(values.astype(np.int64))
        if values.min(initial=0) < 0:
            raise ValueError("cu_seqlens falls; expected: integers that rise from 0")
        values = values[values != 0]  # attention kernels take empty segments, so their users do
    check_lengths(values, tokens)
    return values


def check_lengths(lengths: NDArray[Any], tokens: int | None) -> None:
    """Checks the lengths of the segments of one sequence.

    Raises:
        ValueError: they are not integers from 1 on, or together more than `tokens`.
    """
    if lengths.ndim != 1 or (lengths.dtype.kind not in "iu" and lengths.size):
        raise ValueError(f"seq_lengths is {_shown(lengths)}; expected: one integer per segment")
    values = lengths.tolist()  # integers of Python: their sum cannot overflow
    if min(values, default=1) < 1:
        raise ValueError(f"a segment has {min(values):,} tokens; expected: at least 1")
    most = LONGEST if tokens is None else tokens
    total = sum(values)
    if total > most:
        longest = max(values)
        found = f"a segment has {longest:,}" if longest > most else f"the segments have {total:,}"
        raise ValueError(f"{found} tokens; expected: at most {most:,}")


def _checked_positions(values: Any) -> NDArray[np.int64]:
    """Positions that are 0 at the start of a row, and elsewhere 0 or one more than the one before.

    Raises:
        ValueError: they are not.
    """
    given = np.asarray(values)
    if given.ndim < 1 or (given.dtype.kind not in "iu" and given.size):
        raise ValueError(f"position_ids is {_shown(given)}; expected: integers [..., L]")
    positions = given.astype(np.int64)
    wrong = positions != 0
    wrong[..., 1:] &= positions[..., 1:] != positions[..., :-1] + 1
    if wrong.any():
        at = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        place = ", ".join(str(int(i)) for i in at)
        raise ValueError(
            f"position_ids[{place}] is {positions[at]}; expected: 0, where a segment begins, or "
            "one more than the position before"
        )
    return positions


def _checked_mask(mask: Any, found: Any) -> Any:
    values = mask if _is_tensor(mask) else np.asarray(mask)
    if tuple(values.shape) != tuple(found.shape):
        raise ValueError(
            f"mask is of shape {tuple(values.shape)}; expected: that of the weights, "
            f"{tuple(found.shape)}"
        )
    return values


def _filled(lengths: NDArray[Any], tokens: int, of_segment: NDArray[Any]) -> NDArray[Any]:
    """What the longest segment has, at the place of each segment; 0 for what is left of tokens."""
    found = np.empty(tokens, of_segment.dtype)
    # Bytes, since to slice and assign arrays takes longer, which counts where segments are short.
    source, target = of_segment.view(np.uint8).data, found.view(np.uint8).data
    start = 0
    for length in lengths.tolist():
        end = start + length * of_segment.itemsize
        target[start:end] = source[: end - start]
        start = end
    target[start:] = bytes(len(target) - start)
    return found


def _shown(values: NDArray[Any]) -> str:
    return f"an array of {values.dtype} of shape {values.shape}"
