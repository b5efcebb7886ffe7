"""The tasks with RULER's parameters (arXiv 2404.06654, and the configuration of its repository)."""

from collections.abc import Mapping, Sequence

from .common_words import common_words
from .drafts import Make
from .frequent_words import frequent_words
from .needles import CODE, Needles
from .variables import chain

__all__ = ["BUDGETS", "MAKERS", "QUESTIONS", "read_prose"]

MAKERS: Mapping[str, Make] = {
    "niah_single_1": Needles(haystack="paragraph"),
    "niah_single_2": Needles(haystack="prose"),
    "niah_single_3": Needles(haystack="prose", value=CODE),
    "niah_multikey_1": Needles(haystack="prose", keys=4),
    "niah_multikey_2": Needles(haystack="needles"),
    "niah_multikey_3": Needles(haystack="needles", key=CODE, value=CODE),
    "niah_multivalue": Needles(haystack="prose", values=4),
    "niah_multiquery": Needles(haystack="prose", keys=4, asked=4),
    "vt": chain,
    "cwe": common_words,
    "fwe": frequent_words,
}
"""Task -> makes the drafts of its items. The tasks of `QUESTIONS` need a file."""

QUESTIONS = ("qa_1", "qa_2")

BUDGETS: Mapping[str, int] = {
    **dict.fromkeys((name for name in MAKERS if name.startswith("niah")), 128),
    "vt": 30,
    "cwe": 120,
    "fwe": 50,
    **dict.fromkeys(QUESTIONS, 32),
}
"""Task -> tokens that a prompt leaves for its answer."""


def read_prose(tasks: Sequence[str]) -> bool:
    """Whether some of the tasks hide needles in prose."""
    makers = [MAKERS.get(task) for task in tasks]
    return any(isinstance(make, Needles) and make.haystack == "prose" for make in makers)
