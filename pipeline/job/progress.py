"""Progress for a person: a line that changes on a terminal, an occasional plain line elsewhere.

    tokenize   38 %  1.2 of about 3.1 billion tokens  12.3 M/s  2:41 left

A runner reports nothing until it is done, so progress is read off the files in the job's folder.
That may take minutes where the folder is remote and has a hundred thousand files. So a thread of
its own counts, and whoever waits for the job still notices at once that it is to end.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ...schemas.pace import Pace
from ...schemas.status_line import amount, clock, fitted, percentage, speed
from ..terminal import Console, bar

__all__ = ["Count", "Progress"]

COUNT_SECONDS = 0.5
LINE_SECONDS = 15.0
COUNT_SHARE = 0.05
"""Largest share of the time spent counting: listing a large or remote folder is slow."""
PATIENCE_SECONDS = 0.1
"""How long a count is waited for before it is left to itself; most are quicker."""
TITLE_WIDTH = 8
BAR_WIDTH = 20
BAR_FROM = 100
"""Characters of a terminal that has room for a bar, whatever else the line has."""


@dataclass(frozen=True)
class Count:
    """How far a job is.

    Attributes:
        done: how much is done.
        total: how much there is; None while it is unknown.
        what: what is counted, in the singular; "byte" for an amount of data.
        about: whether the total is an estimate.
    """

    done: int
    total: int | None
    what: str = "token"
    about: bool = False


class _Counting(threading.Thread):
    """Counts once, in the background."""

    def __init__(self, count: Callable[[], Count], now: float) -> None:
        super().__init__(daemon=True)
        self._count, self.began = count, now
        self._found: Count | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._found = self._count()
        except BaseException as error:
            self._error = error

    def result(self) -> Count:
        """What was counted, once it has been; or the error."""
        if self._error is not None:
            raise self._error
        assert self._found is not None
        return self._found


class Progress:
    """Shows how far one job is; `poll` may be called often and counts only now and then.

    Args:
        console: where to show it.
        title: the name of the job.
        count: counts what is done; the job that shows its progress defines it. It is called by
            one thread at a time.
    """

    def __init__(self, console: Console, title: str, count: Callable[[], Count]) -> None:
        self._console, self._title, self._count = console, title, count
        self._next = self._said = self._began = time.monotonic()
        self._counting: _Counting | None = None
        self._at: Count | None = None
        self._before = 0
        self._pace = Pace()
        self._is_done = False
        self._live: Any = None

    def __enter__(self) -> "Progress":
        rich = self._console.rich
        if rich.is_terminal and not rich.quiet:
            from rich.live import Live

            self._live = Live(get_renderable=self._renderable, console=rich, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                if self._counting is not None:
                    self._counting.join()
                self._take(self._count(), time.monotonic())
                self._is_done = True
        finally:
            if self._live is not None:
                self._live.stop()
        if error is None and self._live is None:
            self._console.say(self._line(None))

    def poll(self) -> None:
        """Counts and shows progress if the last time is long enough ago; never takes long.

        Raises:
            Exception: that of the counting.
        """
        now = time.monotonic()
        if self._counting is None:
            if now < self._next:
                return
            self._counting = _Counting(self._count, now)
        self._counting.join(PATIENCE_SECONDS)
        if self._counting.is_alive():
            return
        counted, self._counting = self._counting, None
        now = time.monotonic()
        self._take(counted.result(), now)
        took = now - counted.began
        self._next = now + max(COUNT_SECONDS, took / COUNT_SHARE)
        if self._live is None and now - self._said >= LINE_SECONDS:
            self._said = now
            self._console.say(self._line(None))

    def _take(self, count: Count, now: float) -> None:
        if self._at is None or self._at.what != count.what:
            self._pace, self._before = Pace(), count.done
        self._pace.note(now, count.done)
        self._at = count

    def _renderable(self) -> Any:
        """The line, for the width that the terminal has now."""
        from rich.text import Text

        # A terminal may wrap a line that fills it.
        return Text(self._line(self._console.rich.width - 1), no_wrap=True, overflow="crop")

    def _line(self, width: int | None) -> str:
        """Title, bar, percentage, amount, speed, and the time that is left or was taken."""
        count, now = self._at, time.monotonic()
        title = (0, f"{self._title:<{TITLE_WIDTH}}")
        if count is None:
            return fitted([title], width)
        rate, left, total = self._pace.rate, None, count.total
        if self._is_done:
            rate = (count.done - self._before) / max(now - self._began, 1e-3)
            total = None
        elif total is not None:
            left = self._pace.left(now, total)
        part = "100 %" if self._is_done else ""
        if total is not None:
            part = percentage(count.done, total)
        ends = f"in {_duration(now - self._began)}" if self._is_done else ""
        return fitted(
            [
                title,
                (5, self._bar(count, width) if part else ""),
                (1, f"{part:>5}" if part else ""),
                (3, amount(count.done, total, count.what, about=count.about)),
                (4, speed(rate, count.what) if rate is not None else ""),
                (2, f"{clock(left)} left" if left is not None else ends),
            ],
            width,
        )

    def _bar(self, count: Count, width: int | None) -> str:
        if width is None or width < BAR_FROM - 1:
            return ""
        full = count.total if count.total is not None and not self._is_done else count.done
        ascii_only = self._console.rich.options.ascii_only
        return f"{bar(count.done, full, BAR_WIDTH, ascii_only=ascii_only):<{BAR_WIDTH}}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)
