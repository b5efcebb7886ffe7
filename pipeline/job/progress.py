"""Progress for a person: bars on a terminal, now and then a plain line elsewhere.

A runner tells nothing before it is done, so progress is what has appeared in the job's folder.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ..terminal import Console

__all__ = ["Count", "Progress"]

LOOK_SECONDS = 0.5
LINE_SECONDS = 15.0
LOOK_SHARE = 0.05
"""Of the time: a look at a large store, or at a remote one, takes a while itself."""


@dataclass(frozen=True)
class Count:
    """How far a job is.

    Attributes:
        what: the unit that is counted: "splits", "shards".
        done, total: how many; total is None while it is unknown.
        tokens: processed so far.
    """

    what: str
    done: int
    total: int | None
    tokens: int


class Progress:
    """Shows how far one graph is; `poll` is called often and looks now and then."""

    def __init__(self, console: Console, title: str, look: Callable[[], Count]) -> None:
        self._console, self._title, self._look = console, title, look
        self._next = self._said = self._began = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Progress":
        rich = self._console.rich
        if rich.is_terminal and not rich.quiet:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                TimeElapsedColumn(),
                console=rich,
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._show(time.monotonic(), final=True)
        if self._bar is not None:
            self._bar.stop()

    def poll(self) -> None:
        """Looks if it is time to."""
        now = time.monotonic()
        if now >= self._next:
            self._show(now, final=False)
            took = time.monotonic() - now
            self._next = now + max(LOOK_SECONDS, took / LOOK_SHARE)

    def _show(self, now: float, *, final: bool) -> None:
        if self._bar is None and not final and now - self._said < LINE_SECONDS:
            return
        count = self._look()
        rate = count.tokens / max(now - self._began, 1e-3)
        done = f"{count.done:,}" if count.total is None else f"{count.done:,} of {count.total:,}"
        text = f"{done} {count.what}, {count.tokens:,} tokens, {rate / 1e6:.1f} M tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=count.done, total=count.total, text=text)
        else:
            self._said = now
            self._console.say(f"{self._title}: {text}")
