"""What the commands of training have in common. Nothing heavy is imported before it is needed."""

from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec

import click

from ..schemas.errors import UsageError
from ..schemas.extras import install_line
from ..schemas.importing import import_to_stay
from ..schemas.sizes import parse_size
from ..schemas.terminal import echo

__all__ = ["check_installed", "size", "speaker"]


def check_installed() -> None:
    """Checks that what training needs is installed, by importing it.

    Raises:
        UsageError: it is not, or it is damaged, as torch is without its CUDA libraries.
    """
    for name in ("torch", "transformers"):
        if find_spec(name) is None:
            raise UsageError(f"{name} is not installed", fix=install_line("train"))
        try:
            import_to_stay(name)
        except (ImportError, OSError) as error:
            raise UsageError(
                f"{name} is installed, but cannot be imported: {error}",
                fix="make a new environment, and install exactcpt with its extra `train` there",
            ) from error


def size(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A click callback: the count that a text such as 500M says.

    Raises:
        click.BadParameter: the text says none.
    """
    if text is None:
        return None
    try:
        return parse_size(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def speaker(quiet: bool) -> Callable[[str], None]:
    """What prints a line for a person: on stderr, or not at all."""
    if quiet:
        return lambda _: None

    def say(line: str) -> None:
        with suppress(OSError):  # whoever read the lines has ended, and a run need not
            echo(line, err=True)

    return say
