"""The commands of a study, as a person would type them.

A command is a tuple of words: the name of a command of exactcpt and its arguments.
"""

import copy
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import click

from ...schemas.settings import flag_of
from ..config import SETTINGS
from ..evaluation.cli import evaluate

__all__ = [
    "EVALUATE",
    "Command",
    "evaluate_arguments",
    "evaluate_command",
    "evaluate_flags",
    "parsed",
    "shown",
    "train_command",
]

Command = tuple[str, ...]

EVALUATE = "evaluate"

NOT_SETTINGS = {"out", "items_only", "tokenizer", "json", "quiet", "debug"}
"""Flags of `evaluate` that a study has no use for."""


def train_command(settings: Mapping[str, Any]) -> Command:
    """The command that trains with these settings; the others have their defaults."""
    words = ["train"]
    mix = settings.get("mix")
    given = settings if mix is None else {**settings, "mix": None, "shards": mix}
    for name in SETTINGS:
        if given.get(name) is not None:
            words += _flag(name, given[name])
    return tuple(words)


def _flag(name: str, value: Any) -> list[str]:
    flag = flag_of(name)
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if isinstance(value, Mapping):
        return [word for key, each in value.items() for word in (flag, f"{key}={each}")]
    return [flag, str(value)]


def evaluate_command(runs: Sequence[str], arguments: Sequence[str]) -> Command:
    """The command that evaluates some runs."""
    return (EVALUATE, *runs, *arguments)


def evaluate_flags() -> dict[str, str]:
    """Name of each setting of `evaluate` that a study may give -> its flag."""
    flags = [p.opts[0] for p in evaluate.params if isinstance(p, click.Option)]
    names = {flag[2:].replace("-", "_"): flag for flag in flags}
    return {name: flag for name, flag in names.items() if name not in NOT_SETTINGS}


def evaluate_arguments(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The arguments of `evaluate` for some settings; the values of a list are joined by commas."""
    words: list[str] = []
    for name, flag in evaluate_flags().items():
        if name in values:
            value = values[name]
            words += [flag, ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return tuple(words)


def parsed(arguments: Sequence[str]) -> dict[str, Any]:
    """The parameters that `evaluate` would get.

    Raises:
        click.ClickException: it would refuse them.
    """
    # A command remembers the names of its help option from its first context: a copy takes these.
    return copy.copy(evaluate).make_context(EVALUATE, [*arguments]).params


def shown(command: Command) -> str:
    """A command as it can be pasted into a shell."""
    return shlex.join(("exactcpt", *command))
