"""The command `convert`."""

from collections.abc import Mapping
from typing import Any

from ..convert.job import convert
from .invocation import Invocation, folder_at

__all__ = ["run_convert"]


def run_convert(flags: Mapping[str, Any]) -> None:
    """Writes the windows of a shard set in the format of another trainer."""
    call = Invocation(flags)
    out = call.out
    convert(folder_at(flags["shards"]), out, flags["to"], call.console)
    call.console.say(f"{out.url} is complete")
