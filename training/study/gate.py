"""What the gate of a base looks at: the gain of the evidence at short distances."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from ...schemas.errors import UsageError
from .asked import asked_probes
from .config import Gate, Study

__all__ = ["gain_of"]

CONTEXT = "minimal"
"""Its prompts are no longer than the documents that a base may have been trained on."""


def gain_of(study: Study, run: Path, gate: Gate, evaluations: Collection[str]) -> float:
    """The mean gain of a run over all facts and the distances of a gate, in nats.

    It is that of the shortest prompts, at the last step that was evaluated.

    Args:
        study: the study.
        run: folder of the run.
        gate: the gate.
        evaluations: names of the folders of the evaluations that count.

    Raises:
        UsageError: the probe has no such distance.
        FormatError: an evaluation is damaged.
    """
    probed = asked_probes(study, run, evaluations)
    gains = probed[min(probed)].gains.get(CONTEXT) if probed else None
    if gains is None or gate.up_to < gains.distances[0]:
        raise UsageError(
            f"the gate looks at distances up to {gate.up_to}, where the probe has none",
            where=str(run),
            expected=f"up_to of at least {gains.distances[0]}" if gains is not None else None,
        )
    return float(np.nanmean(gains.values[:, gains.distances <= gate.up_to]))
