"""The weights that the runs of several arms start from.

Arms that were trained from one and the same checkpoint can differ only through what came after it.
So nothing before such a *common start* is compared, and an arm may have several of them: runs of
other bases, which may have been trained with another seed or for longer. A run is then paired with
the baseline's run of the same start and the same seeds.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .recorded import RecordedRun
from .settings import arm_key, settings_until, special

__all__ = ["common_start", "start_of"]


def common_start(runs: Sequence[RecordedRun], last: int) -> int | None:
    """How many trainings of each run's history come after a common start; None without one.

    A start is common if runs of several arms were trained from it. What was trained before must
    not differ in what arms differ in, or else it is part of the arms.

    Args:
        runs: all that are compared.
        last: the last step that all have.
    """
    for own in range(1, max(len(run.lineage) for run in runs)):
        deep = [run for run in runs if len(run.lineage) > own]
        arms: dict[str, set[str]] = {}
        for run in deep:
            arm = _text(arm_key(settings_until(run, last, own)))
            arms.setdefault(start_of(run, own) or "", set()).add(arm)
        before = {_text(special(run.lineage[own])) for run in deep}
        if len(before) == 1 and any(len(found) > 1 for found in arms.values()):
            return own
    return None


def start_of(run: RecordedRun, own: int) -> str | None:
    """The fingerprint of the checkpoint that the last `own` trainings of a run started from."""
    return run.lineage[own]["meta"] if len(run.lineage) > own else None


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, sort_keys=True, default=asdict)
