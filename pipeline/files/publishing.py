"""What must hold when a file gets its name.

A work unit can outlive its job: an engine goes on with what a killed process has left there. While
a unit runs, a check is in force that fails once its job is over. Whoever gives a file its name asks
right before, so that a unit which is late changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["publishing_only_if", "require_publishable"]

_check: ContextVar[Callable[[], None] | None] = ContextVar("check", default=None)


@contextmanager
def publishing_only_if(check: Callable[[], None]) -> Iterator[None]:
    """Makes `check` decide, by raising, whether files of this thread get their names."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def require_publishable() -> None:
    """Raises the error of the check that is in force, if it fails."""
    check = _check.get()
    if check is not None:
        check()
