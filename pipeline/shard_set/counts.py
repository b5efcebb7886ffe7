"""The counts in a shard set's manifest, compared with what its windows have.

Weights follow from the histogram, so whoever makes weights from a manifest checks it first. It
costs little: segments are read without their tokens.
"""

from typing import Any

import numpy as np

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST, Manifest
from ...schemas.shard import PADDING, SPLITS
from ..core.buckets import histogram_by_length
from ..files.storage import Folder
from .manifest import SEE_VERIFY
from .windows import read_segments

__all__ = ["refuse_false_counts"]


def refuse_false_counts(shards: Folder, manifest: Manifest) -> None:
    """Counts the windows of a shard set; which source or document has them is left to `verify`.

    Raises:
        FormatError: the manifest has other counts, or a shard is damaged.
    """
    where = shards.url_of(MANIFEST)
    for split in SPLITS:
        claimed = manifest["splits"][split]
        for name, found in _counted(shards, manifest, split).items():
            _compare(where, f"{split}: {name}", claimed[name], found)
        by_source = [source["splits"][split]["histogram"] for source in manifest["sources"]]
        summed = [sum(counts) for counts in zip(*by_source, strict=True)]
        _compare(where, f"{split}: histogram of all sources", summed, claimed["histogram"])


def _counted(shards: Folder, manifest: Manifest, split: str) -> dict[str, Any]:
    window = manifest["settings"]["window"]
    by_length = np.zeros(window + 1, np.int64)
    padding = windows = 0
    for some in read_segments(shards, manifest, split):
        is_padding = some.document == PADDING
        by_length += np.bincount(some.length[~is_padding], minlength=window + 1)
        padding += int(some.length[is_padding].sum(dtype=np.int64))
        windows += int((some.start == 0).sum())
    segments, tokens = int(by_length.sum()), int(by_length @ np.arange(window + 1))
    return {
        "windows": windows,
        "segments": segments,
        "tokens": tokens,
        "padding": padding,
        "targets": tokens - segments,
        "histogram": histogram_by_length(by_length, window).tolist(),
    }


def _compare(where: str, what: str, claimed: Any, found: Any) -> None:
    if claimed != found:
        raise FormatError(
            f"the manifest's counts are not those of the shards: {what} is {claimed}",
            where=where,
            expected=str(found),
            fix=SEE_VERIFY,
        )
