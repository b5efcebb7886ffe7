"""Help in sections: the options of a command, and the commands of a program, under headings."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import click

__all__ = ["SectionedCommand", "Sections", "in_sections"]

Sections = Mapping[str, Sequence[str]]
"""Names under each heading."""
REST = "Options"


class SectionedCommand(click.Command):
    """A command whose help has its options in sections; those without one come last.

    Args:
        sections: headings, and the names of the parameters under each, both in their order. Those
            that the command does not have do not matter, so commands can share them.
    """

    sections: ClassVar[Sections] = {}

    def __init__(self, *args: Any, sections: Sections | None = None, **how: Any) -> None:
        super().__init__(*args, **how)
        self._sections = self.sections if sections is None else sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the options."""
        options = {str(p.name): p for p in self.get_params(ctx) if isinstance(p, click.Option)}
        for heading, mine in in_sections(options, self._sections, REST):
            records = [options[name].get_help_record(ctx) for name in mine]
            shown = [record for record in records if record is not None]
            if shown:
                with formatter.section(heading):
                    formatter.write_dl(shown)


def in_sections(names: Iterable[str], sections: Sections, rest: str) -> list[tuple[str, list[str]]]:
    """Headings with the names under each: in the order of the sections, then the rest.

    Args:
        names: those that there are, in the order in which the rest is to be.
        sections: names by heading; those that there are not do not matter.
        rest: the heading of names that have none.
    """
    there = list(names)
    placed = {name for mine in sections.values() for name in mine}
    found = [(heading, [n for n in mine if n in there]) for heading, mine in sections.items()]
    found.append((rest, [name for name in there if name not in placed]))
    return [(heading, mine) for heading, mine in found if mine]
