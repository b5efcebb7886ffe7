"""SIGTERM asks a run to stop in good order; it does not end the process."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["termination"]


@contextmanager
def termination() -> Iterator[Callable[[], bool]]:
    """Notes SIGTERM instead of being ended by it, and yields a function that tells if it has come.

    After the first one, SIGTERM is ignored for good: none may cut short what the process still has
    to do.
    """
    received: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        received.append(number)

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda: bool(received)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN if received else before)
