"""Cuts a sequence into runs of bounded size: parts into groups, files into work units."""

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["runs"]

T = TypeVar("T")


def runs(items: Iterable[T], size: Callable[[T], int], limit: int) -> list[list[T]]:
    """Consecutive items in runs.

    Args:
        items: what is cut, in order.
        size: the size of an item.
        limit: largest size of a run; a larger item is a run by itself.
    """
    found: list[list[T]] = []
    filled = 0
    for item in items:
        if found and filled + size(item) <= limit:
            found[-1].append(item)
            filled += size(item)
        else:
            found.append([item])
            filled = size(item)
    return found
