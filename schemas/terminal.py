"""All that is printed, by both halves: nothing that a terminal would obey gets past here.

    echo            lines for a person; `console` for tables, colours and bars
    echo_json, echo_toml        for programs
    log_to_stderr   the records of loggers

Nothing else may print; `tests/program/test_terminal.py` looks for it. Colours and the movements of
a progress bar are rich's own and pass.
"""

import io
import logging
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any, TextIO

import click

from .printable import escaped_json, escaped_toml, printable

__all__ = [
    "console",
    "echo",
    "echo_json",
    "echo_toml",
    "echo_traceback",
    "echo_usage",
    "log_to_stderr",
    "own",
    "tame_warnings",
    "terminal_width",
]

OWN = "exactcpt"
"""Key of the mark of text that the program itself means a terminal to obey."""


def echo(text: str, *, err: bool = False, nl: bool = True, fg: str | None = None) -> None:
    """Prints a text for a person.

    Args:
        text: with or without several lines.
        err: whether to print it on stderr.
        nl: whether a newline follows.
        fg: its colour.
    """
    click.secho(printable(text), fg=fg, err=err, nl=nl)


def terminal_width() -> int | None:
    """Characters of a line on stderr; None if it is no terminal."""
    if not sys.stderr.isatty():
        return None
    return shutil.get_terminal_size().columns


def echo_json(text: str, *, nl: bool = True) -> None:
    """Prints JSON on stdout; what a terminal would obey becomes escapes."""
    click.echo(escaped_json(text), nl=nl)


def echo_toml(text: str) -> None:
    """Prints TOML on stdout; what a terminal would obey becomes escapes."""
    click.echo(escaped_toml(text), nl=False)


def echo_traceback() -> None:
    """Prints the traceback of the error that is being handled, on stderr."""
    echo(traceback.format_exc(), err=True, nl=False)


def echo_usage(error: click.ClickException) -> None:
    """Prints an error of the command line as click words it, on stderr."""
    shown = io.StringIO()
    error.show(shown)
    echo(shown.getvalue(), err=True, nl=False)


def console(
    *,
    stderr: bool = False,
    quiet: bool = False,
    soft_wrap: bool = False,
    file: TextIO | None = None,
    width: int | None = None,
) -> Any:
    """A console of rich; strings are printed as they are, without markup or emoji.

    Args:
        stderr: whether it prints on stderr.
        quiet: whether it prints nothing.
        soft_wrap: whether long lines are left to the terminal.
        file: what it prints to, without colours, instead of stdout or stderr.
        width: characters of a line; None for those of the terminal.
    """
    return _console_class()(
        stderr=stderr,
        quiet=quiet,
        soft_wrap=soft_wrap,
        file=file,
        width=width,
        color_system="auto" if file is None else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def own(text: str) -> Any:
    """Text of rich that a terminal obeys: marks of direction, around a text from elsewhere."""
    from rich.style import Style
    from rich.text import Text

    return Text(text, Style.from_meta({OWN: True}), end="")


@cache
def _console_class() -> type:
    from rich.console import Console
    from rich.segment import Segment
    from rich.text import Text

    class PrintableConsole(Console):
        """Makes every piece of text printable, whatever renders it."""

        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(printable(text), **how)

        def render(self, *args: Any, **how: Any) -> Iterable[Segment]:
            for segment in super().render(*args, **how):
                is_own = segment.style is not None and OWN in segment.style.meta
                yield (
                    segment
                    if segment.control or is_own
                    else Segment(printable(segment.text), segment.style)
                )

    return PrintableConsole


def log_to_stderr(level: int) -> None:
    """Lets loggers print records of a level and above on stderr."""
    logging.basicConfig(level=level)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(_Formatter(logging.BASIC_FORMAT))


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def tame_warnings() -> None:
    """Makes the warnings of libraries printable, which Python prints on stderr."""
    original = warnings.formatwarning

    def formatwarning(*args: Any, **how: Any) -> str:
        return printable(original(*args, **how))

    warnings.formatwarning = formatwarning
