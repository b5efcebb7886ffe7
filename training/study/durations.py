"""How long a study still takes, by what its steps have taken so far."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from .graph import Step
from .plan import RecordOf

__all__ = ["Durations", "in_words"]


@dataclass(frozen=True, kw_only=True)
class Durations:
    """The steps of a study by what is known of their duration.

    Attributes:
        steps: how many there are.
        ended: how many have ended.
        seconds: for each that has not, the mean of those of its kind; None if none has ended.
    """

    steps: int
    ended: int
    seconds: tuple[float | None, ...]

    @staticmethod
    def of(steps: Iterable[Step], record_of: RecordOf) -> "Durations":
        """The durations of some steps."""
        known: dict[str, list[float]] = {}
        open_steps: list[Step] = []
        for step in steps:
            record = record_of(step)
            if record is None:
                open_steps.append(step)
            elif record.is_done:
                known.setdefault(step.kind, []).append(record.seconds)
        means = {kind: statistics.mean(seconds) for kind, seconds in known.items()}
        number = sum(1 for _ in steps)
        return Durations(
            steps=number,
            ended=number - len(open_steps),
            seconds=tuple(means.get(step.kind) for step in open_steps),
        )

    def left(self, jobs: int) -> float | None:
        """Seconds until all have ended, so many at once; None if that cannot be told."""
        known = [each for each in self.seconds if each is not None]
        return sum(known) / jobs if len(known) == len(self.seconds) else None


def in_words(seconds: float) -> str:
    """A duration for a person: 4 s, 12 min, 1 h 20 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
