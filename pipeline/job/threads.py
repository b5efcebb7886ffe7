"""Work units on threads of this process, for jobs whose units do not feed each other.

Such a job needs no graph: nothing has to be imported, and nothing started.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

from .interruption import raise_if_interrupted

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0


def in_order(
    do: Callable[[T], R], values: Sequence[T], workers: int, poll: Callable[[], None]
) -> Iterator[R]:
    """The results of a function for values, in their order.

    The first value that the function fails for ends all of it, by the values' order and not by
    time. Values after it may have been done, too.

    Args:
        do: the function.
        values: the values.
        workers: how many threads call it; one is the caller's own.
        poll: is called several times a second, between values if there is one thread.
    """
    if workers == 1 or len(values) < 2:
        for value in values:
            yield do(value)
            poll()
        return
    pool = ThreadPoolExecutor(min(workers, len(values)), thread_name_prefix="exactcpt-worker")
    try:
        due: deque[Future[R]] = deque(pool.submit(do, value) for value in values)
        while due:
            wait([due[0]], POLL_SECONDS)
            poll()
            raise_if_interrupted()
            if due[0].done():
                yield due.popleft().result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _give_time(pool)
        raise
    pool.shutdown()


def _give_time(pool: ThreadPoolExecutor) -> None:
    """Lets the threads finish what they have begun, unless that takes long."""
    ending = threading.Thread(target=pool.shutdown, daemon=True)
    ending.start()
    ending.join(GRACE_SECONDS)
