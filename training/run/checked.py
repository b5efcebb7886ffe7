"""What a run has read through before: neither shards nor weights are read again when it continues.

A preempted job may begin many times, and its shards may be terabytes. `run.json` has what the shard
sets were whose checksums were compared, with the places, sizes and times of their files, and the
sizes and times of the model's files when they were hashed. A set that was copied, moved or written
again is read through again. Sizes are compared at every start, and every window that is read is
checked.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.errors import FormatError, UsageError
from ...schemas.shard_set import ShardSet
from ..config import TrainConfig
from ..windows.agreement import model_fingerprint, model_stamps
from .log import read_run

__all__ = ["hashed_model", "mark_of", "read_through", "record_of_checks"]


def read_through(config: TrainConfig, sets: Sequence[ShardSet]) -> tuple[list[ShardSet], list[str]]:
    """Which shard sets are to be read through now, and which will have been.

    Returns:
        The sets whose checksums are to be compared; and marks of all sets for which that was or is
        to be done.
    """
    known: Collection[str] = _recorded(config).get("checked", ())
    marks = {mark_of(each): each for each in sets}
    unknown = [each for mark, each in marks.items() if mark not in known]
    now = {"auto": unknown, "checksums": list(sets)}.get(config.check_shards, [])
    return now, sorted(mark for mark, each in marks.items() if each in now or mark in known)


def mark_of(shards: ShardSet) -> str:
    """Which shard set this is: its fingerprint, and a digest of where and when it was written."""
    files = sorted((name, *stamp[1:]) for name, stamp in shards.stamps.items())
    place = json.dumps([str(shards.root.resolve()), files])
    return f"{shards.fingerprint} {xxhash.xxh3_128_hexdigest(place.encode())}"


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
        checked: marks of the shard sets that were read through.
    """
    return {"checked": [*checked], "model_files": model_stamps(Path(config.model))}


def _recorded(config: TrainConfig) -> dict[str, Any]:
    """The record of an earlier start; empty if there is none, or none that can be read."""
    try:
        return read_run(Path(config.out))
    except (UsageError, FormatError):  # if the run cannot go on with it, that is told elsewhere
        return {}
