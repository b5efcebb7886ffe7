"""Effective contexts and weights of the tokens of windows that anybody packed.

Where the segments of a window begin is said in one of three ways, as packers and attention kernels
say it:

    seq_lengths     3 2 4                  the length of each segment
    cu_seqlens      0 3 5 9                where each segment begins, and where the last one ends
    position_ids    0 1 2 0 1 0 1 2 3      the position of each token in its segment

A position in a segment is an effective context: how many tokens of its own document a target sees.
The first token of a segment sees none, so it is no target, and its weight is 0. So is that of
padding, which is what follows the last segment.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..core.exact import WeightTable

if TYPE_CHECKING:
    import torch

    Array: TypeAlias = NDArray[Any] | torch.Tensor

__all__ = ["check_lengths", "effective_context", "weights"]


def effective_context(
    *,
    seq_lengths: "Array | Sequence[int] | None" = None,
    cu_seqlens: "Array | Sequence[int] | None" = None,
    position_ids: "Array | Sequence[int] | None" = None,
    tokens: int | None = None,
) -> Any:
    """The effective context of every token: how many tokens of its own document it can see.

    One of the first three arguments is given. Tensors of PyTorch are taken as they are, and give
    tensors on the same device; they are not checked, since a check would wait for the device.

    Args:
        seq_lengths: lengths of the segments of one sequence of tokens, integers [segments].
        cu_seqlens: where they begin, from 0, and where the last one ends, integers [segments + 1].
        position_ids: the position of each token in its segment, integers [..., L].
        tokens: length of the sequence, if it is longer than its segments: the rest is padding. For
            tensors it is needed, except with `position_ids`.

    Returns:
        int64, [tokens] or the shape of `position_ids`; 0 for the first token of a segment and for
        padding.

    Raises:
        ValueError: the argument does not describe segments, or is longer than `tokens`.
    """
    given = _given(seq_lengths=seq_lengths, cu_seqlens=cu_seqlens, position_ids=position_ids)
    name, values = given
    if _is_tensor(values):
        from . import tensors

        return tensors.effective_context(name, values, tokens)
    if name == "position_ids":
        return checked_positions(np.asarray(values)).astype(np.int64)
    lengths = _lengths(name, np.asarray(values))
    check_lengths(lengths, tokens)
    found = np.zeros(_tokens(lengths, tokens), np.int64)
    longest = np.arange(lengths.max(initial=0))
    _fill(found, lengths, longest)
    return found


def weights(
    *,
    table: WeightTable,
    seq_lengths: "Array | Sequence[int] | None" = None,
    cu_seqlens: "Array | Sequence[int] | None" = None,
    position_ids: "Array | Sequence[int] | None" = None,
    tokens: int | None = None,
) -> Any:
    """The loss weight of every token as a target.

    `weights[j]` belongs to token j as the target that position j - 1 predicts. One of
    `seq_lengths`, `cu_seqlens` and `position_ids` is given. With tensors of PyTorch it compiles
    without a graph break; they are not checked, since a check would wait for the device.

    Args:
        table: the weights of the corpus, from `weight_table`.
        seq_lengths: lengths of the segments of one window, integers [segments].
        cu_seqlens: where they begin, from 0, and where the last one ends, integers [segments + 1].
        position_ids: the position of each token in its segment, integers [..., L].
        tokens: length of the result; None for the window of the table. Several windows that lie
            end to end have more. It has no meaning with `position_ids`.

    Returns:
        float32, [tokens] or the shape of `position_ids`; 0 for the first token of a segment and for
        padding.

    Raises:
        ValueError: the argument does not describe segments, a segment is longer than the window of
            the table, or all together are longer than `tokens`.
    """
    name, values = _given(seq_lengths=seq_lengths, cu_seqlens=cu_seqlens, position_ids=position_ids)
    if _is_tensor(values):
        from . import tensors

        return tensors.weights(table, name, values, tokens)
    by_context = table.by_context
    if name == "position_ids":
        positions = checked_positions(np.asarray(values))
        if positions.max(initial=0) >= len(by_context):
            raise ValueError(
                f"position_ids has {positions.max():,}; expected: less than the window of the "
                f"table, {len(by_context):,} tokens"
            )
        return by_context[positions]
    lengths = _lengths(name, np.asarray(values))
    tokens = len(by_context) if tokens is None else tokens
    check_lengths(lengths, tokens)
    if lengths.max(initial=0) > len(by_context):
        raise ValueError(
            f"a segment has {lengths.max():,} tokens; expected: at most the window of the table, "
            f"{len(by_context):,}"
        )
    found = np.zeros(tokens, np.float32)
    _fill(found, lengths, by_context)
    return found


def _given(**arguments: Any) -> tuple[str, Any]:
    """The name and the value of the only argument that is given."""
    given = [(name, value) for name, value in arguments.items() if value is not None]
    if len(given) != 1:
        names = ", ".join(name for name, _ in given) or "none"
        raise ValueError(f"{names} given; expected: one of {', '.join(arguments)}")
    return given[0]


def _is_tensor(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "torch"


def _lengths(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The lengths of the segments, whichever way they are given."""
    if name == "seq_lengths":
        return values
    if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values) or values[0] != 0:
        raise ValueError(
            f"cu_seqlens is {_shown(values)}; expected: integers that rise from 0, one more than "
            "there are segments"
        )
    lengths = np.diff(values.astype(np.int64))
    return lengths[lengths != 0]  # attention kernels take empty segments, and so do their users


def check_lengths(lengths: NDArray[Any], tokens: int | None) -> None:
    """Checks the lengths of the segments of one sequence.

    Raises:
        ValueError: they are not integers from 1 on, or together more than `tokens`.
    """
    if lengths.ndim != 1 or (lengths.dtype.kind not in "iu" and lengths.size):
        raise ValueError(f"seq_lengths is {_shown(lengths)}; expected: one integer per segment")
    if lengths.min(initial=1) < 1:
        raise ValueError(f"a segment has {lengths.min():,} tokens; expected: at least 1")
    total = int(lengths.sum(dtype=np.int64))
    if tokens is not None and total > tokens:
        raise ValueError(f"the segments have {total:,} tokens; expected: at most {tokens:,}")


def checked_positions(positions: NDArray[Any]) -> NDArray[Any]:
    """Positions that are 0 at the start of a row and 0 or one more than the one before elsewhere.

    Raises:
        ValueError: they are not.
    """
    if positions.ndim < 1 or positions.dtype.kind not in "iu":
        raise ValueError(f"position_ids is {_shown(positions)}; expected: integers [..., L]")
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


def _tokens(lengths: NDArray[Any], tokens: int | None) -> int:
    return int(lengths.sum(dtype=np.int64)) if tokens is None else tokens


def _fill(found: NDArray[Any], lengths: NDArray[Any], of_segment: NDArray[Any]) -> None:
    """Writes the first n values of the longest segment at the place of each segment of n tokens."""
    start = 0
    for length in lengths.tolist():
        found[start : start + length] = of_segment[:length]
        start += length


def _shown(values: NDArray[Any]) -> str:
    return f"an array of {values.dtype} of shape {values.shape}"
