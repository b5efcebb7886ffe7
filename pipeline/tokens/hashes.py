"""Content hashes: equal for documents of equal content, whatever their ids and sources."""

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..sources.records import Strings

__all__ = ["content_hashes", "hash_prefixes"]


def content_hashes(content: Strings) -> NDArray[np.void]:
    """The xxh3-128 of the bytes of every value: 16 bytes each, shape [len(content)]."""
    view = np.ascontiguousarray(content.data).view(np.uint8).data
    ends = (content.offsets * content.data.itemsize).tolist()
    values = map(view.__getitem__, map(slice, ends, ends[1:]))
    joined = b"".join(map(xxhash.xxh3_128_digest, values))
    return np.frombuffer(joined, np.dtype("V16"))


def hash_prefixes(hashes: NDArray[np.void]) -> NDArray[np.uint64]:
    """The first 8 bytes of each hash as a big-endian integer, shape [len(hashes)]."""
    return hashes.view(">u8").reshape(-1, 2)[:, 0].astype(np.uint64)
