"""How fast something goes, and how long it still takes."""

from collections import deque

__all__ = ["Pace"]

RECENT_SECONDS = 60.0
RECENT_STEPS = 10
KNOWN_SECONDS = 10.0
KNOWN_STEPS = 3


class Pace:
    """The speed over the last minute, or over the last ten steps where these are longer.

    Work that is counted comes in steps: a part, a shard, a step of training. Between two of them
    nothing is counted, but time passes. So the speed is measured from step to step, and the time
    that is left runs down between them, by one usual step at most: what stands still does not seem
    to come to its end.
    """

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int]] = deque()
        self._taken = 0

    def note(self, now: float, done: int) -> None:
        """Notes how much is done; what was done before the first note has no speed.

        Args:
            now: in seconds, of a clock that never goes back.
            done: in any unit. Less than before means that the work has begun again.
        """
        steps = self._steps
        if steps and done < steps[-1][1]:
            steps.clear()
            self._taken = 0
        if steps and done == steps[-1][1]:
            return
        self._taken += bool(steps)
        steps.append((now, done))
        while len(steps) > RECENT_STEPS + 1 and steps[1][0] <= now - RECENT_SECONDS:
            steps.popleft()

    @property
    def rate(self) -> float | None:
        """Units per second; None before it can be known, after ten seconds and three steps."""
        if self._taken < KNOWN_STEPS:
            return None
        (began, before), (ended, after) = self._steps[0], self._steps[-1]
        return (after - before) / (ended - began) if ended - began >= KNOWN_SECONDS else None

    def left(self, now: float, total: int) -> float | None:
        """Seconds until `total` is done; None before the speed can be known."""
        rate = self.rate
        if rate is None:
            return None
        (began, _), (ended, done) = self._steps[0], self._steps[-1]
        usual = (ended - began) / (len(self._steps) - 1)
        return max((total - done) / rate - min(now - ended, usual), 0.0)
