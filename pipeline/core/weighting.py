"""What weights would do to the targets and sources of a corpus.

    Exposure ── EXACT's parameters ──> Weighting

The loss weight of some targets is the sum of their weights. So every figure follows from the number
of targets in each bucket, and the time it takes does not grow with the corpus.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .exact import WeightTable, weight_table
from .parameters import Exact
from .whatif import Exposure

__all__ = ["SourceWeighting", "Weighting", "weigh", "weigh_by"]


@dataclass(frozen=True, kw_only=True)
class SourceWeighting:
    """The effect of the weights on one source.

    Attributes:
        tail_targets: its supervised targets in the tail.
        mass_before, mass_after: its share of the total loss weight, with all weights 1 and with
            the weights; 0 to 1.
        mean_weight: over its supervised targets; None where it has none.
    """

    tail_targets: int
    mass_before: float
    mass_after: float
    mean_weight: float | None


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """The effect of the weights on an exposure.

    Attributes:
        table: the weight of every bucket.
        tail_windows: windows with at least one target in the tail.
        largest_weight: the largest weight of a bucket with targets; 1 where there are none.
        mean_weight: over the supervised targets; None where there are none.
        effective_sample_size: (sum w)^2 / sum w^2 over the number of targets: the fraction of them
            that would carry as much information with equal weights (Kish); None where there are
            none.
        mass_before, mass_after: each bucket's share of the total loss weight, with all weights 1
            and with the weights; 0 to 1, shape [buckets].
        sources: by name.
    """

    table: WeightTable
    tail_windows: int
    largest_weight: float
    mean_weight: float | None
    effective_sample_size: float | None
    mass_before: list[float]
    mass_after: list[float]
    sources: Mapping[str, SourceWeighting]


def weigh(exposure: Exposure, exact: Exact) -> Weighting:
    """Weighs the targets of an exposure with the weights of the formula."""
    table = weight_table(exposure.histogram.tolist(), exposure.window, exact)
    return weigh_by(table, exposure, exact.tau)


def weigh_by(table: WeightTable, exposure: Exposure, tau: int) -> Weighting:
    """Weighs the targets of an exposure with a given table.

    Args:
        table: made from the exposure's histogram.
        exposure: the targets and windows.
        tau: where the table's tail begins, in tokens of effective context.
    """
    counts = exposure.histogram
    targets = int(counts.sum())
    weights = np.array(table.weights)
    tail = np.array([row.in_tail for row in table.rows])
    mass = counts * weights
    total = float(mass.sum())

    def of_source(histogram: NDArray[np.int64]) -> SourceWeighting:
        mine, mass = int(histogram.sum()), float(histogram @ weights)
        return SourceWeighting(
            tail_targets=int(histogram[tail].sum()),
            mass_before=mine / targets if targets else 0.0,
            mass_after=mass / total if targets else 0.0,
            mean_weight=mass / mine if mine else None,
        )

    return Weighting(
        table=table,
        tail_windows=exposure.tail_windows(tau),
        largest_weight=float(max(weights[counts > 0], default=1.0)),
        mean_weight=total / targets if targets else None,
        effective_sample_size=(
            total * total / float(mass @ weights) / targets if targets else None
        ),
        mass_before=(counts / max(1, targets)).tolist(),
        mass_after=(mass / total if targets else mass).tolist(),
        sources={name: of_source(s.histogram) for name, s in exposure.sources.items()},
    )
