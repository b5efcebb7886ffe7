"""Windows as two indexed data sets of Megatron-LM with one structure: tokens, and their weights.

    NAME.bin, NAME.idx                    ids: uint16 if all are below 65,500, else int32
    NAME_weights.bin, NAME_weights.idx    float32

A window is a document of both, and each of its segments, padding included, is a sequence. So
`document_indices` says which sequences a window has, and their lengths are its `seq_lengths`.
`sources/megatron.py` describes the format.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..sources.megatron import HEADER, MAGIC, TYPES, VERSION
from .checked import Window

__all__ = ["write_megatron"]

FEW_IDS = 65_500
"""Below it, Megatron-LM takes uint16 (`DType.optimal_dtype`)."""
WEIGHTS = "<f4"


def write_megatron(windows: Iterable[Window], stem: Path, largest_id: int) -> None:
    """Writes the four files.

    Args:
        windows: in order.
        stem: the folder and the name of the files, without a suffix.
        largest_id: of the vocabulary.
    """
    ids = "<u2" if largest_id + 1 < FEW_IDS else "<i4"
    weights = stem.with_name(f"{stem.name}_weights")
    lengths: list[np.ndarray] = []
    with _data(stem).open("wb") as tokens, _data(weights).open("wb") as floats:
        for window in windows:
            tokens.write(window.ids.astype(ids).tobytes())
            floats.write(window.weights.astype(WEIGHTS).tobytes())
            lengths.append(window.lengths.copy())  # not a view of the whole batch
    _write_index(stem, ids, lengths)
    _write_index(weights, WEIGHTS, lengths)


def _data(stem: Path) -> Path:
    return stem.with_name(f"{stem.name}.bin")


def _write_index(stem: Path, dtype: str, lengths: list[np.ndarray]) -> None:
    """Writes an index of documents whose sequences have these lengths."""
    code = next(code for code, kind in TYPES.items() if kind == dtype)
    flat = np.concatenate([np.empty(0, "<i4"), *lengths]).astype("<i4")
    starts = np.cumsum(flat, dtype="<i8") - flat
    bounds = np.cumsum([0, *map(len, lengths)], dtype="<i8")
    with stem.with_name(f"{stem.name}.idx").open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, code, len(flat), len(bounds)))
        for numbers in (flat, starts * np.dtype(dtype).itemsize, bounds):
            file.write(numbers.tobytes())
