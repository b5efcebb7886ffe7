"""Content hashes: equal for documents of equal content, whatever their ids and sources."""

from itertools import pairwise

import numpy as np
import xxhash
from numpy.typing import NDArray

from ..sources.records import Strings

__all__ = ["content_hashes", "hash_prefixes"]


def content_hashes(content: Strings) -> NDArray[np.void]:
    """The xxh3-128 of the bytes of every value: 16 bytes each, shape [len(content)]."""
    view = np.ascontiguousarray(content.data).view(np.uint8).data
    ends = (content.offsets * content.data.itemsize).tolist()
    digest = xxhash.xxh3_128_digest
    joined = b"".join([digest(view[a:b]) for a, b in pairwise(ends)])
    return np.frombuffer(joined, np.dtype("V16"))


def hash_prefixes(hashes: NDArray[np.void]) -> NDArray[np.uint64]:
    """The first 8 bytes of each hash as a big-endian integer, shape [len(hashes)]."""
    return hashes.view(">u8").reshape(-1, 2)[:, 0].astype(np.uint64)
