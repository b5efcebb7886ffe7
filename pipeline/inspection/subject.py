"""An inspection: what was inspected, and one row per combination of settings."""

from dataclasses import dataclass

from ...schemas.manifest import Manifest
from ..core.parameters import PARAMETERS
from ..core.weighting import Weighting
from ..core.whatif import Exposure
from ..pack.settings import Settings
from .json_types import IntervalsJson, SampleJson

__all__ = ["ALWAYS_NAMED", "SETTINGS", "Row", "Subject"]

SETTINGS = (
    "window",
    "packing",
    *PARAMETERS,
    "mixing",
    "token_budget",
    "dedup",
    "validation_fraction",
    "group_tokens",
    "seed",
)
"""The settings that change an answer, in the order in which they are shown."""
ALWAYS_NAMED = ("window", "packing", "tau", "alpha", "gamma")
"""Those that are named even where they have their defaults."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """The answer for one combination of settings.

    Attributes:
        settings: the settings of packing, as in the manifest of a shard set.
        exposure: what the training windows contain.
        weighting: what the weights do to it.
        command: the command line that makes such a shard set.
        intervals: the intervals of an estimate; None where figures are exact.
    """

    settings: Settings
    exposure: Exposure
    weighting: Weighting
    command: str
    intervals: IntervalsJson | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was inspected.

    Attributes:
        path: the path as it was given.
        kind: "token store", "shard set" or "sample".
        manifest: its manifest; for a sample, the entries that a token store's would have.
        longest_document: tokens of the longest document.
        rows: one per combination of settings.
        sample: what was sampled; None where everything was counted.
    """

    path: str
    kind: str
    manifest: Manifest
    longest_document: int
    rows: tuple[Row, ...]
    sample: SampleJson | None = None
