"""The two figures that NoLiMa's authors report of a model, from its scores by length.

base score          mean of the scores at 250, 500 and 1,000 tokens
effective length    the longest with at least 85% of the base score
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

__all__ = ["Effective", "effective_length", "effective_lines"]

BASE = (250, 500, 1000)
SHARE = 0.85


class Effective(NamedTuple):
    """What a model does with longer haystacks.

    Attributes:
        base: the base score.
        length: the effective length in tokens; None if no length that was evaluated reaches it.
    """

    base: float
    length: int | None


def effective_length(scores: Mapping[int, float]) -> Effective | None:
    """The figures of a model; None if a length of the base score was not evaluated.

    Args:
        scores: tokens of the haystack -> share of the right answers.
    """
    if not {*BASE} <= {*scores}:
        return None
    base = sum(scores[length] for length in BASE) / len(BASE)
    reached = [length for length, score in scores.items() if score >= SHARE * base]
    return Effective(base, max(reached, default=None))


def effective_lines(summaries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields a line for each model whose answers were written at the lengths of the base score."""
    by_model: dict[str, dict[int, float]] = {}
    for found in summaries:
        mean = found["rows"][-1].get("match")
        if found["suite"] == "nolima" and mean is not None:
            by_model.setdefault(found["model"], {})[found["length"]] = mean
    for model, scores in by_model.items():
        figures = effective_length(scores)
        if figures is not None:
            length = "none" if figures.length is None else f"{figures.length:,}"
            yield (
                f"{model}: base score {figures.base:.3f}, the mean at 250, 500 and 1,000 tokens; "
                f"effective length {length}, the longest with at least {SHARE:.0%} of it"
            )
