"""Markdown in which texts of other people stay texts: they are data, and could be markup."""

import re
from collections.abc import Iterable, Sequence

from ...schemas.printable import printable

__all__ = ["code", "one_line", "table", "text"]

MARKUP = re.compile(r"[\\`*_\[\]<>#!|~&$]|:(?=\S)|^[-+=]|(?<=\d)[.)](?=\s|$)")
"""What Markdown, or what the hub adds to it, may take for more than a character."""
TICKS = re.compile("`+")


def text(value: str) -> str:
    """A text that is shown as it is, in a line of its own or in the middle of one."""
    return MARKUP.sub(r"\\\g<0>", one_line(value).strip())


def code(value: str) -> str:
    """A text in the typeface of code, for a cell of a table."""
    line = one_line(value)
    if not line.strip():
        return "` `"
    fence = "`" * (1 + max(map(len, TICKS.findall(line)), default=0))
    space = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{space}{line}{space}{fence}".replace("|", r"\|")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; columns whose head begins with `>` are for numbers.

    Args:
        heads: of the columns, as Markdown.
        rows: their cells, as Markdown.
    """
    names = [head.removeprefix(">") for head in heads]
    rule = ["---:" if head.startswith(">") else "---" for head in heads]
    lines = [names, rule, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def one_line(value: str) -> str:
    """A text without line breaks and tabs, with names for what a terminal obeys or hides."""
    return printable(value).replace("\n", " ").replace("\t", " ")
