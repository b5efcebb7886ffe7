"""The command line that makes what a row of an inspection describes."""

import math
import shlex
from typing import Any

from ..config import PackConfig
from ..core.parameters import PARAMETERS
from ..pack.settings import ALWAYS_NAMED, Settings

__all__ = ["pack_command", "pack_flags", "reweigh_command"]


def pack_command(store: str, settings: Settings) -> str:
    """The command line that packs a store with these settings; OUT is to be replaced."""
    return shlex.join(["exactcpt", "pack", store, *pack_flags(settings), "--out", "OUT"])


def pack_flags(settings: Settings, *, mixing: bool = True) -> list[str]:
    """The flags that ask for settings of packing; those of mixing only where it is wanted."""
    defaults = PackConfig.__dataclass_fields__
    flags: list[str] = []
    for name in (name for name in defaults if name != "mixing"):
        if name in ALWAYS_NAMED or settings[name] != defaults[name].default:
            flags += [f"--{name.replace('_', '-')}", _plain(settings[name])]
    for source, asked in settings["mixing"].items() if mixing else ():
        if asked != {"epochs": 1.0}:
            flags += [f"--{kind}={source}={_plain(value)}" for kind, value in asked.items()]
    return flags


def reweigh_command(shards: str, settings: Settings) -> str:
    """The command line that gives a shard set these weights; OUT is to be replaced."""
    weights = {name: settings[name] for name in PARAMETERS}
    if weights["max_weight"] is None:
        weights["max_weight"] = math.inf  # what is not named stays as the set has it
    flags = [
        word
        for name, value in weights.items()
        for word in (f"--{name.replace('_', '-')}", _plain(value))
    ]
    return shlex.join(["exactcpt", "reweigh", shards, *flags, "--out", "OUT"])


def _plain(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
