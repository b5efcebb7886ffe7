"""Writes docs/commands.md: the help of every command, as the commands themselves print it.

python tests/helpers/command_reference.py
"""

from pathlib import Path

import click

from exactcpt.pipeline.cli import cli

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
WIDTH = 100
"""Of the help, whatever terminal this runs in."""

INTRODUCTION = """\
# Commands

Every command with all its options, as `exactcpt COMMAND --help` prints them. `make reference`
writes this page; a test compares it with the commands.
"""


def reference() -> str:
    """The page: the program's own help, then that of each command, in the program's order."""
    program = click.Context(cli, info_name="exactcpt", terminal_width=WIDTH, **cli.context_settings)
    sections = [_section("exactcpt", cli.get_help(program))]
    for name in cli.list_commands(program):
        command = cli.get_command(program, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=program, **command.context_settings)
        sections.append(_section(f"exactcpt {name}", command.get_help(context)))
    return "\n".join([INTRODUCTION, *sections])


def _section(title: str, text: str) -> str:
    lines = "\n".join(line.rstrip() for line in text.splitlines())
    return f"## {title}\n\n```text\n{lines}\n```\n"


def main() -> None:
    """Writes the page."""
    PAGE.write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
