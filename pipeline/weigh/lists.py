"""Lists that were read, as rows that can be cut."""

from ..core.boundaries import Rows
from ..sources.records import Strings

__all__ = ["lists_of"]


def lists_of(read: Strings) -> Rows:
    """One row per list; wherever they lie in the buffer, the rows begin at 0."""
    first, stop = read.offsets[0], read.offsets[-1]
    return Rows(read.offsets - first, read.data[first:stop])
