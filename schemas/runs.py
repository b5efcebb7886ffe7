"""Cuts a sequence into runs of bounded size: parts into groups, files into work units."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["runs"]

T = TypeVar("T")


def runs(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Yields consecutive items in runs; holds one run at a time.

    Args:
        items: what is cut, in order.
        size: the size of an item.
        limit: largest size of a run; a larger item is a run by itself.
    """
    run: list[T] = []
    filled = 0
    for item in items:
        if run and filled + size(item) > limit:
            yield run
            run, filled = [], 0
        run.append(item)
        filled += size(item)
    if run:
        yield run
