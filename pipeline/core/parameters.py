"""The parameters of the EXACT weighting: their names, defaults and ranges.

`exact.py` has the formula that they stand in. This module needs no library, so the command line
has it at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

__all__ = ["FORMULA", "PARAMETERS", "Exact", "ParameterError", "exact_of"]

RANGES: Mapping[str, tuple[float, float]] = {
    "alpha": (0, 1000),
    "gamma": (0, 10),
    "epsilon": (0, 1),
    "max_weight": (1, 1001),
}
"""Inside them no int64 counts make a power overflow, and every weight is finite in float32."""


class ParameterError(ValueError):
    """A parameter is out of its range.

    Attributes:
        found: the parameter and its value.
        expected: the values that it may have.
    """

    def __init__(self, found: str, expected: str) -> None:
        super().__init__(found, expected)
        self.found, self.expected = found, expected

    def __str__(self) -> str:
        return f"{self.found}; expected: {self.expected}"


@dataclass(frozen=True, kw_only=True)
class Exact:
    """The parameters of the weighting.

    Attributes:
        tau: where the tail begins, in tokens of effective context.
        alpha: mean extra weight of the tail's targets.
        gamma: exponent of the inverse frequency; 0 treats the tail's buckets alike.
        epsilon: added to a bucket's share of the tail before the power.
        max_weight: ceiling for a weight, at least 1 + alpha; None for no ceiling.

    Raises:
        ParameterError: a parameter is out of its range.
    """

    tau: int
    alpha: float = 0.15
    gamma: float = 0.5
    epsilon: float = 1e-8
    max_weight: float | None = None

    def __post_init__(self) -> None:
        if self.tau < 0:
            raise ParameterError(f"tau is {self.tau}", "at least 0")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ParameterError(f"{name} is {value:,}", f"{low:,} to {high:,}")
        if self.max_weight is not None and 1 + self.alpha > self.max_weight:
            raise ParameterError(
                f"alpha {self.alpha:g} is more than max_weight {self.max_weight:g} allows",
                f"alpha of at most max_weight - 1 = {self.max_weight - 1:g}",
            )


PARAMETERS = tuple(field.name for field in fields(Exact))
"""The names of all parameters."""
FORMULA = tuple(name for name in PARAMETERS if name != "tau")
"""Those that only weights from the formula have; a table of given weights has a tail, too."""


def exact_of(settings: Mapping[str, Any]) -> Exact:
    """The parameters among the settings of a shard set.

    Raises:
        ParameterError: one is out of its range.
    """
    return Exact(**{name: settings[name] for name in PARAMETERS})
