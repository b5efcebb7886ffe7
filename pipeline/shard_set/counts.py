"""The counts in a shard set's manifest, counted again from the segments and supervised spans.

Weights follow from the histogram in the manifest, so whoever computes weights counts first. It
costs little: segments are read without their tokens.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST, Manifest
from ...schemas.shard import PADDING, SPLITS
from ..core.buckets import histogram_by_length, sum_by_bucket
from ..files.storage import Folder
from .manifest import SEE_VERIFY
from .windows import Segments, read_segments

__all__ = ["SegmentCount", "check_counts"]


class SegmentCount:
    """Counts the segments of a split, batch by batch.

    Args:
        window: window length in tokens.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._by_length = np.zeros(window + 1, np.int64)
        self._of_spans: NDArray[np.int64] | None = None  # targets by context
        self._windows = self._padding = 0

    def add(self, found: Segments) -> None:
        """Adds the segments of whole windows."""
        is_padding = found.document == PADDING
        lengths = found.length[~is_padding]
        self._by_length += np.bincount(lengths, minlength=len(self._by_length))
        if found.spans is not None:
            before = 0 if self._of_spans is None else self._of_spans
            self._of_spans = before + found.spans.targets_by_context(self._window)
        self._padding += int(found.length[is_padding].sum(dtype=np.int64))
        self._windows += int((found.start == 0).sum())

    def check(self, manifest: Manifest, split: str, shards: Folder) -> None:
        """Compares what was counted with the manifest.

        Raises:
            FormatError: they differ.
        """
        claimed = manifest["splits"][split]
        for name, found in self._counts().items():
            _compare(shards, f"{split}: {name}", claimed[name], found)

    def _counts(self) -> dict[str, Any]:
        segments = int(self._by_length.sum())
        tokens = int(self._by_length @ np.arange(self._window + 1))
        if self._of_spans is None:
            histogram = histogram_by_length(self._by_length, self._window)
        else:
            histogram = sum_by_bucket(self._of_spans, self._window)
        return {
            "windows": self._windows,
            "segments": segments,
            "tokens": tokens,
            "padding": self._padding,
            "targets": int(histogram.sum()),
            "histogram": histogram.tolist(),
        }


def check_counts(shards: Folder, manifest: Manifest) -> None:
    """Counts all windows of a set; which source or document has them is left to `verify`.

    Raises:
        FormatError: the manifest has other counts, or as `read_segments`.
    """
    for split in SPLITS:
        count = SegmentCount(manifest["settings"]["window"])
        for found in read_segments(shards, manifest, split):
            count.add(found)
        count.check(manifest, split, shards)
        by_source = [source["splits"][split]["histogram"] for source in manifest["sources"]]
        summed = [sum(counts) for counts in zip(*by_source, strict=True)]
        claimed = manifest["splits"][split]["histogram"]
        _compare(shards, f"{split}: histogram of all sources", summed, claimed)


def _compare(shards: Folder, what: str, claimed: Any, found: Any) -> None:
    if claimed != found:
        raise FormatError(
            f"the manifest's counts are not those of the shards: {what} is {claimed}",
            where=shards.url_of(MANIFEST),
            expected=str(found),
            fix=SEE_VERIFY,
        )
