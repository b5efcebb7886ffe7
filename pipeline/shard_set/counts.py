"""The histogram of a shard set, counted again from the lengths of its segments.

Weights follow from the histogram in the manifest, so whoever computes weights counts first.
"""

import numpy as np

from ...schemas.errors import FormatError
from ...schemas.manifest import Manifest
from ...schemas.shard import PADDING
from ...schemas.sizes import plural
from ..core.buckets import histogram_by_length
from ..files.storage import Folder
from .manifest import SEE_VERIFY
from .windows import Segments, read_segments

__all__ = ["SegmentCount", "check_histogram"]


class SegmentCount:
    """Counts the segments of a split, batch by batch.

    Args:
        window: window length in tokens.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._by_length = np.zeros(window + 1, np.int64)
        self._windows = 0

    def add(self, found: Segments) -> None:
        """Adds the segments of whole windows."""
        lengths = found.length[found.document != PADDING]
        self._by_length += np.bincount(lengths, minlength=len(self._by_length))
        self._windows += len(np.unique(found.window))

    def check(self, manifest: Manifest, split: str, where: str) -> None:
        """Compares what was counted with the manifest.

        Raises:
            FormatError: they differ.
        """
        claimed = manifest["splits"][split]
        found = self._windows, int(self._by_length.sum())
        if found != (claimed["windows"], claimed["segments"]):
            raise FormatError(
                f"the shards have {plural(found[0], 'window')} with {plural(found[1], 'segment')}",
                where=where,
                expected=f"{claimed['windows']:,} with {claimed['segments']:,}, as the manifest "
                "says",
                fix=SEE_VERIFY,
            )
        histogram = histogram_by_length(self._by_length, self._window).tolist()
        if histogram != claimed["histogram"]:
            raise FormatError(
                f"the shards have the histogram {histogram}",
                where=where,
                expected=f"{claimed['histogram']}, as the manifest says",
                fix=SEE_VERIFY,
            )


def check_histogram(shards: Folder, manifest: Manifest, split: str) -> None:
    """Counts the segments of all windows of a split, and compares them with the manifest.

    Raises:
        FormatError: they differ, or as `read_segments`.
    """
    count = SegmentCount(manifest["settings"]["window"])
    for found in read_segments(shards, manifest, split):
        count.add(found)
    count.check(manifest, split, shards.url)
