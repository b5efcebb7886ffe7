"""The labels of packed rows: which of their tokens are targets.

    input_ids   5 6 7 2 8 9 2
    labels   -100 6 7 2 -100 9 2      targets: 6 7 2, 9 2

A label is the id at its own place, or -100 where the trainer is to learn nothing. Trainers shift
labels and ids by one themselves, and so they are not shifted here. Labels of padding do not count.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.sizes import plural
from ..core.boundaries import Cut, CutError, Rows
from ..core.spans import Spans

__all__ = ["IGNORED", "in_text", "spans_of_labels"]

IGNORED = -100
"""The label of a token that is no target, in PyTorch's cross-entropy and whatever builds on it."""


def spans_of_labels(ids: Rows, labels: Rows, cut: Cut) -> Spans:
    """The supervised spans of segments, by the labels of their rows.

    Args:
        ids, labels: of the rows.
        cut: their segments.

    Raises:
        CutError: a label is neither the id at its place nor -100, or a row has fewer or more.
    """
    for row in np.flatnonzero(labels.lengths != ids.lengths)[:1].tolist():
        raise CutError(
            row,
            f"a row has {plural(int(ids.lengths[row]), 'token')} and "
            f"{plural(int(labels.lengths[row]), 'label')}",
            "one label for each token",
        )
    own, said = in_text(ids, cut), in_text(labels, cut)
    is_target = said != IGNORED
    wrong = np.flatnonzero(is_target & (own != said))
    if len(wrong):
        raise _wrong(int(wrong[0]), own, said, cut)
    return _runs(is_target, cut.lengths)


def in_text(rows: Rows, cut: Cut) -> NDArray[Any]:
    """The values of rows end to end, padding left out."""
    if int(cut.texts.sum()) == len(rows.values):
        return rows.values
    pairs = zip(rows.ends[:-1].tolist(), cut.texts.tolist(), strict=True)
    return np.concatenate([rows.values[start : start + length] for start, length in pairs])


def _runs(mask: NDArray[np.bool_], lengths: NDArray[np.int64]) -> Spans:
    """The runs of True in segments that lie end to end."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    first, last = np.zeros(len(mask), np.bool_), np.zeros(len(mask), np.bool_)
    first[begins] = last[ends - 1] = True
    before = np.concatenate(([False], mask[:-1])) & ~first
    after = np.concatenate((mask[1:], [False])) & ~last
    start, stop = np.flatnonzero(mask & ~before), np.flatnonzero(mask & ~after) + 1
    segment = np.searchsorted(ends, start, "right")
    counts = np.bincount(segment, minlength=len(lengths))
    return Spans(
        np.concatenate(([0], np.cumsum(counts))),
        (start - begins[segment]).astype(np.int32),
        (stop - begins[segment]).astype(np.int32),
    )


def _wrong(at: int, own: NDArray[np.int32], said: NDArray[np.int32], cut: Cut) -> CutError:
    ends = np.cumsum(cut.texts)
    row = int(np.searchsorted(ends, at, "right"))
    start, stop = int(ends[row] - cut.texts[row]), int(ends[row])
    targets = said[start : stop - 1] != IGNORED
    next_ids = own[start + 1 : stop]
    is_shifted = bool(targets.any() and (said[start : stop - 1] == next_ids)[targets].all())
    return CutError(
        row,
        f"token {at - start + 1:,} has the id {own[at]:,} and the label {said[at]:,}",
        f"the label {own[at]:,}, or {IGNORED} where it is no target",
        "the labels are those of the next tokens: move them back by one, as Hugging Face models "
        "take them"
        if is_shifted
        else "make the labels from the same ids, or leave the column out if they are of something "
        "else",
    )
