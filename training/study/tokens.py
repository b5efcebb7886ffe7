"""How many tokens a step trains on, if that can be told before."""

from pathlib import Path

from ...schemas.errors import ExactcptError
from ...schemas.manifest import MANIFEST, SHARD_SET, parse
from ...schemas.regular import read_regular
from ..config import SETTINGS
from .graph import Step

__all__ = ["tokens_of"]


def tokens_of(step: Step, folder: Path) -> int | None:
    """The tokens of a step's training, padding included.

    None if the step trains nothing, if its shards are not there yet, or if it takes an epoch.
    """
    settings = step.training
    if settings is None:
        return None
    if settings.get("max_tokens") is not None:
        return settings["max_tokens"]
    path = folder / settings["shards"] / MANIFEST
    try:
        window = parse(read_regular(path), str(path), SHARD_SET)["settings"]["window"]
    except (OSError, ExactcptError):  # what is wrong with them is told when they are used
        return None
    windows = settings.get("global_batch", SETTINGS["global_batch"].default)
    steps = settings.get("steps")
    return steps and steps * windows * window
