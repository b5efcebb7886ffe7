"""Windows as a data set of MosaicML Streaming (MDS), one per sample.

    input_ids      ndarray:int32      [L]
    loss_weight    ndarray:float32    [L], as in a shard of ours
    seq_lengths    ndarray:int32      [segments], padding included

`sources/mds.py` describes the format. The bytes are those that MDSWriter writes for the same
columns, with its default size of a shard and SHA-1 hashes.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..sources.companions import INDEX
from .checked import Window

__all__ = ["write_mds"]

COLUMNS = {
    "input_ids": "ndarray:int32",
    "loss_weight": "ndarray:float32",
    "seq_lengths": "ndarray:int32",
}
"""In the order of their names, which is that of the values in a sample."""
SHARD_BYTES = 1 << 26
"""What a shard may have, if it has more than one sample."""
HASH = "sha1"
CONFIG = {
    "version": 2,
    "format": "mds",
    "compression": None,
    "hashes": [HASH],
    "size_limit": SHARD_BYTES,
    "column_names": [*COLUMNS],
    "column_encodings": [*COLUMNS.values()],
    "column_sizes": [None] * len(COLUMNS),
}
COUNT = np.dtype("<u4")


def write_mds(windows: Iterable[Window], folder: Path) -> None:
    """Writes a folder of shards and, last, its index."""
    folder.mkdir()
    shards: list[dict[str, Any]] = []
    samples: list[bytes] = []
    head = filled = 2 * COUNT.itemsize + len(_json(CONFIG))
    for window in windows:
        sample = _sample(window)
        size = len(sample) + COUNT.itemsize
        if samples and filled + size > SHARD_BYTES:
            shards.append(_write_shard(samples, folder, len(shards)))
            samples, filled = [], head
        samples.append(sample)
        filled += size
    if samples:
        shards.append(_write_shard(samples, folder, len(shards)))
    (folder / INDEX).write_bytes(_json({"version": CONFIG["version"], "shards": shards}))


def _write_shard(samples: list[bytes], folder: Path, number: int) -> dict[str, Any]:
    """Writes a shard; returns its entry in the index."""
    config = _json(CONFIG)
    first = COUNT.itemsize * (len(samples) + 2) + len(config)
    starts = first + np.cumsum([0, *map(len, samples)])
    counts = np.concatenate(([len(samples)], starts)).astype(COUNT)
    data = b"".join([counts.tobytes(), config, *samples])
    path = folder / f"shard.{number:05}.mds"
    path.write_bytes(data)
    digest = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    told = {"basename": path.name, "bytes": len(data), "hashes": {HASH: digest}}
    return {**CONFIG, "samples": len(samples), "raw_data": told, "zip_data": None}


def _sample(window: Window) -> bytes:
    values = [_array(each) for each in (window.ids, window.weights, window.lengths)]
    return b"".join([np.array([*map(len, values)], COUNT).tobytes(), *values])


def _array(values: NDArray[Any]) -> bytes:
    """An array of one axis: that it has one, and the type of its length; its length; the values."""
    code = next(i for i in range(4) if len(values) < 1 << (8 << i))
    length = np.array([len(values)], f"<u{1 << code}")
    return bytes([1 << 2 | code]) + length.tobytes() + values.tobytes()


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
