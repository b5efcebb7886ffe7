"""Whether an output has the right answers: RULER's metrics.

match_all    share of the gold strings that the output has
match_any    1 if it has any of them, else 0: for questions, where all are the same answer
"""

import re
from collections.abc import Sequence

__all__ = ["cleaned", "match"]

CONTROL = re.compile(r"[\x00-\x1f]")


def cleaned(output: str) -> str:
    """An output with line ends in the place of control characters, and without white space around.

    So a string is not found where a control character parts it.
    """
    return CONTROL.sub("\n", output).strip()


def match(output: str, gold: Sequence[str], *, any_of: bool) -> float:
    """How much of the right answer an output has, from 0 to 1; case does not count.

    Args:
        output: what a model wrote.
        gold: the strings that it should have; at least one.
        any_of: whether one of them is enough.
    """
    said = cleaned(output).lower()
    found = [string.lower() in said for string in gold]
    return float(any(found)) if any_of else sum(found) / len(found)
