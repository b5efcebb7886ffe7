"""The six benchmarks that say whether nothing else was harmed, as they are usually scored."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MACRO", "SIX", "Benchmark"]

MACRO = "macro"
"""The mean of the six scores."""


class Benchmark(NamedTuple):
    """How a benchmark is scored.

    Attributes:
        metric: what lm-eval calls the score of an item, with its filter where it has several.
        shots: solved examples before each item.
    """

    metric: str
    shots: int


SIX: Mapping[str, Benchmark] = {
    "mmlu": Benchmark("acc", 5),
    "arc_challenge": Benchmark("acc_norm", 25),
    "hellaswag": Benchmark("acc_norm", 10),
    "winogrande": Benchmark("acc", 5),
    "piqa": Benchmark("acc_norm", 0),
    "gsm8k": Benchmark("exact_match,flexible-extract", 5),
}
"""Name of a task of lm-eval -> its score. The numbers of examples are the usual ones."""
