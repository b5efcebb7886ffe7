"""Progress for a person: a bar on a terminal, an occasional plain line elsewhere.

A runner reports nothing until it is done, so progress is read off the files in the job's folder.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ...schemas.sizes import plural
from ..terminal import Console

__all__ = ["Count", "Progress"]

COUNT_SECONDS = 0.5
LINE_SECONDS = 15.0
COUNT_SHARE = 0.05
"""Largest share of the time spent counting: listing a large or remote folder is slow."""


@dataclass(frozen=True)
class Count:
    """How far a job is.

    Attributes:
        what: what is counted, in the singular: "split", "shard".
        done: how many are done.
        total: how many there are; None while it is unknown.
        tokens: tokens processed so far.
    """

    what: str
    done: int
    total: int | None
    tokens: int

    @property
    def in_words(self) -> str:
        """The count for a person: "3 of 12 splits, 1,000 tokens"."""
        of_all = f"{self.done:,} of " if self.total is not None else ""
        number = self.done if self.total is None else self.total
        return f"{of_all}{plural(number, self.what)}, {plural(self.tokens, 'token')}"


class Progress:
    """Shows how far one graph is; `poll` may be called often and counts only now and then.

    Args:
        console: where to show it.
        title: the name of the job.
        count: counts what is done; the job that shows its progress defines it.
    """

    def __init__(self, console: Console, title: str, count: Callable[[], Count]) -> None:
        self._console, self._title, self._count = console, title, count
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
        """Counts and shows progress if the last time is long enough ago."""
        now = time.monotonic()
        if now >= self._next:
            self._show(now, final=False)
            took = time.monotonic() - now
            self._next = now + max(COUNT_SECONDS, took / COUNT_SHARE)

    def _show(self, now: float, *, final: bool) -> None:
        if self._bar is None and not final and now - self._said < LINE_SECONDS:
            return
        count = self._count()
        rate = count.tokens / max(now - self._began, 1e-3)
        text = f"{count.in_words}, {rate / 1e6:.1f} M tokens/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=count.done, total=count.total, text=text)
        else:
            self._said = now
            self._console.say(f"{self._title}: {text}")
