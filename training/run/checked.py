"""What a run has read through before: neither shards nor weights are read again when it continues.

A preempted job may begin many times, and its shards may be terabytes. `run.json` has the
fingerprints of the shard sets whose checksums were compared, and the sizes and times of the model's
files when they were hashed. Sizes are compared at every start, and every window that is read is
checked.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from ...schemas.errors import FormatError, UsageError
from ...schemas.shard_set import ShardSet
from ..config import TrainConfig
from ..windows.agreement import model_fingerprint, model_stamps
from .log import read_run

__all__ = ["hashed_model", "read_through", "record_of_checks"]


def read_through(config: TrainConfig, sets: Sequence[ShardSet]) -> tuple[list[ShardSet], list[str]]:
    """Which shard sets are to be read through now, and which will have been.

    Returns:
        The sets whose checksums are to be compared; and the fingerprints of all sets for which
        that was or is to be done.
    """
    known: Collection[str] = _recorded(config).get("checked", ())
    wanted = {"auto": [s for s in sets if s.fingerprint not in known], "checksums": list(sets)}
    now = wanted.get(config.check_shards, [])
    done = [s.fingerprint for s in sets if s in now or s.fingerprint in known]
    return now, sorted({*done})


def hashed_model(config: TrainConfig) -> str:
    """The fingerprint of the model, from an earlier start if its files are as they were then.

    Raises:
        FormatError: as `model_fingerprint`.
    """
    recorded, model = _recorded(config), Path(config.model)
    if config.check_shards != "checksums" and recorded.get("model_files") == model_stamps(model):
        return recorded["identity"]["model"]
    return model_fingerprint(model)


def record_of_checks(config: TrainConfig, checked: Collection[str]) -> dict[str, Any]:
    """What `run.json` gets to know of it.

    Args:
        config: the settings of the run.
        checked: fingerprints of the shard sets that were read through.
    """
    return {"checked": [*checked], "model_files": model_stamps(Path(config.model))}


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """The record of an earlier start; empty if there is none, or none that can be read."""
    try:
        return read_run(Path(config.out))
    except (UsageError, FormatError):  # if the run cannot go on with it, that is told elsewhere
        return {}
