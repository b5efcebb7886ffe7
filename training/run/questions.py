"""How often the ranks ask each other, inside a step, whether one of them is to stop.

All ranks must stop at the same place, so they ask at the same time, and each waits for the slowest.
Asking after every micro-batch would cost a round of messages each; asking once per step only would
let a signal wait as long as a step of many micro-batches takes. So they ask by time: about once in
`SECONDS`. The clocks of ranks differ, so each proposes a number of micro-batches, and what all of
them proposed, added up together with the other sums of a step, decides.
"""

import time

__all__ = ["SECONDS", "Questions"]

SECONDS = 1.0
"""Between two questions: much more than one costs, and little of the time that there is to stop."""


class Questions:
    """What a rank proposes, by how long its last step has taken.

    Args:
        micro_batches: number of micro-batches of a step.
    """

    def __init__(self, micro_batches: int) -> None:
        self._micro_batches = micro_batches
        self._began: float | None = None

    def proposed(self) -> int:
        """How many micro-batches to take between two questions; called as each step begins.

        It is 1 in the first step, since nobody knows how long it takes. As many micro-batches as a
        step has mean that there is no question inside it.
        """
        now = time.monotonic()
        began, self._began = self._began, now
        if began is None:
            return 1
        affordable = SECONDS * self._micro_batches / max(now - began, 1e-9)
        return int(min(max(affordable, 1), self._micro_batches))
