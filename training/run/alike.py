"""Whether all ranks have one run: the same settings, programs, shards and model.

Each machine of a run has a command line, an installation, and maybe disks of its own. Ranks that
differ in any of them would train one model on something that no rank was asked for.
"""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ...schemas.errors import UsageError
from ..config import PATHS, TrainConfig
from .world import World

__all__ = ["check_alike", "check_settings"]

PROGRAMS = ("exactcpt", "torch", "transformers")
NOT_GIVEN = "not given"
"""Stands for a setting that has no value, which is another one than any value."""


def check_settings(config: TrainConfig, world: World) -> None:
    """Checks that all ranks have the same settings and programs.

    Settings that name a place may differ: what is there is compared by content.

    Raises:
        UsageError: some rank has others; the first difference is named.
    """
    settings = {name: value for name, value in config.recorded().items() if name not in PATHS}
    settings["eval"] = sorted(config.eval or ())
    settings["mix"] = [*(config.mix or {}).values()]
    told = {name: NOT_GIVEN if value is None else value for name, value in settings.items()}
    programs = {name: version(name) for name in PROGRAMS}  # first: others have other settings
    check_alike(programs | told, world, fix="start every rank with the same command")


def check_alike(ours: Mapping[str, Any], world: World, *, fix: str) -> None:
    """Checks that all ranks have the same values.

    Args:
        ours: the name of each value, and this rank's value; None if this rank does not know it.
        world: the ranks; all call this.
        fix: what a person can do if they differ.

    Raises:
        UsageError: some rank has another value; the first difference is named.
    """
    everyones = world.gather(dict(ours))
    for name in dict.fromkeys(name for each in everyones for name in each):
        values = [(rank, each.get(name)) for rank, each in enumerate(everyones)]
        known = [(rank, value) for rank, value in values if value is not None]
        for rank, value in known:
            first, expected = known[0]
            if value != expected:
                world.fail(
                    UsageError(
                        f"the ranks differ in {name}: {expected} on rank {first}, {value} on rank "
                        f"{rank}",
                        fix=fix,
                    )
                )
