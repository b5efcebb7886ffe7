"""The flags of commands that tell what trainings will take. Nothing heavy is imported."""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from ..config import Card

__all__ = ["forecast_options"]

F = TypeVar("F", bound=Callable[..., Any])


def forecast_options(function: F) -> F:
    """The flags --card and --gpus."""
    card = click.option(
        "--card",
        type=click.Choice(get_args(Card)),
        default="h100",
        show_default=True,
        help="With --dry-run: the GPU that is planned for.",
    )
    gpus = click.option(
        "--gpus",
        type=click.IntRange(1),
        multiple=True,
        metavar="N",
        help="With --dry-run: number of GPUs. Repeatable.  [default: 1 and 8]",
    )
    return card(gpus(function))
