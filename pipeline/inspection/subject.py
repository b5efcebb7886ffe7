"""An inspection: what was inspected, and one row per combination of settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...schemas.manifest import Manifest
from ..core.weighting import Weighting
from ..core.whatif import Exposure
from ..pack.settings import Settings

__all__ = ["Row", "Subject"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The answer for one combination of settings.

    Attributes:
        settings: of packing, as in the manifest of a shard set.
        exposure: what the training windows have.
        weighting: what the weights do to it.
        command: makes a shard set that is so.
        intervals: of an estimate, as in the JSON; None where figures are exact.
    """

    settings: Settings
    exposure: Exposure
    weighting: Weighting
    command: str
    intervals: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was inspected.

    Attributes:
        path: as it was given.
        kind: "token store", "shard set" or "sample".
        manifest: its manifest; of a sample, what a token store's would say.
        longest_document: in tokens.
        rows: one a combination of settings.
        sample: what was sampled, as in the JSON; None where everything was counted.
    """

    path: str
    kind: str
    manifest: Manifest
    longest_document: int
    rows: tuple[Row, ...]
    sample: Mapping[str, Any] | None = None
