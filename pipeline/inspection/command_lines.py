"""The command lines that make what the rows of an inspection describe."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

from ...schemas.settings import flag_of
from ..config import PackConfig
from ..core.parameters import PARAMETERS
from ..pack.settings import Settings
from .subject import ALWAYS_NAMED

__all__ = ["pack_command", "pack_flags", "reweigh_command", "weigh_command"]


def pack_command(store: str, settings: Settings) -> str:
    """The command line that packs a store with these settings; OUT stands for the new folder."""
    return shlex.join(["exactcpt", "pack", store, *pack_flags(settings), "--out", "OUT"])


def pack_flags(settings: Settings, *, mixing: bool = True) -> list[str]:
    """The flags that ask for settings of packing, with or without those of mixing."""
    defaults = PackConfig.__dataclass_fields__
    flags: list[str] = []
    for name in (name for name in defaults if name != "mixing"):
        if name in ALWAYS_NAMED or settings[name] != defaults[name].default:
            flags += [flag_of(name), _plain(settings[name])]
    for source, asked in settings["mixing"].items() if mixing else ():
        if asked != {"epochs": 1.0}:
            flags += [f"--{kind}={source}={_plain(value)}" for kind, value in asked.items()]
    return flags


def reweigh_command(shards: str, settings: Settings) -> str:
    """The command line that gives a shard set these weights; OUT stands for the new folder."""
    weights = {name: settings[name] for name in PARAMETERS}
    if weights["max_weight"] is None:
        weights["max_weight"] = math.inf  # a parameter that is not given keeps the set's value
    return shlex.join(["exactcpt", "reweigh", shards, *_flags(weights), "--out", "OUT"])


def weigh_command(sources: Sequence[str], flags: Sequence[str], settings: Settings) -> str:
    """The command line that weighs packed windows so; OUT stands for the new folder.

    Args:
        sources: of the windows.
        flags: what else the command needs to read them.
        settings: with the parameters of the weights.
    """
    weights = {name: settings[name] for name in PARAMETERS if settings[name] is not None}
    return shlex.join(["exactcpt", "weigh", *sources, *flags, *_flags(weights), "--out", "OUT"])


def _flags(values: Settings) -> list[str]:
    return [word for name, value in values.items() for word in (flag_of(name), _plain(value))]


def _plain(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
