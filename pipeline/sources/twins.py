"""Twins: one file under its own name and with the suffix of a compression, or with two of them.

`a.jsonl` beside `a.jsonl.gz` is what a decompressed download looks like. One of them is read: the
one that is not compressed, unless it is empty.
"""

from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from .formats import format_of

__all__ = ["twins"]


def twins(paths: Iterable[str], is_empty: Callable[[str], bool]) -> dict[str, str]:
    """The files that are not read -> the twin that is.

    Args:
        paths: files of one source.
        is_empty: whether a file has no bytes; asked of twins only.
    """
    by_name: dict[str, list[str]] = {}
    for path in paths:
        compressed = format_of(path)[1] is not None
        plain = path.removesuffix(PurePosixPath(path).suffix) if compressed else path
        by_name.setdefault(plain, []).append(path)
    return {
        other: best
        for plain, same in by_name.items()
        if len(same) > 1
        for best in [min(same, key=lambda path, plain=plain: (is_empty(path), path != plain, path))]
        for other in same
        if other != best
    }
