"""Folders of table formats, which keep the rows of older versions in files of their own.

Reading all files of such a folder would read rows several times, and rows that were deleted. The
folder is refused. Some of its files may be just what somebody wants, so they get a warning.
"""

import re
from collections.abc import Iterable
from typing import Any

from ...schemas.errors import ExactcptError
from .matching import is_local

__all__ = ["refuse_tables", "table_around"]

KINDS = {
    "Delta": re.compile(r"(^|/)_delta_log/"),
    "Iceberg": re.compile(r"(^|/)metadata/[^/]*\.metadata\.json$"),
    "Hudi": re.compile(r"(^|/)\.hoodie/"),
}

LEVELS = 3
"""How far above files the folder of their table is looked for: partitions are folders too."""


def refuse_tables(source: str, where: str, names: Iterable[str]) -> None:
    """Refuses a folder that is, or contains, a table of a known kind.

    Args:
        source: the name of the source.
        where: its pattern.
        names: everything that the pattern matches, hidden files included.

    Raises:
        ExactcptError: there is such a table.
    """
    for name in names:
        for kind, log in KINDS.items():
            found = log.search(name)
            if found:
                table = name[: found.start()]
                raise ExactcptError(
                    f"source {source!r} has a {kind} table: its files also hold the rows of older "
                    "versions",
                    where=f"{table} in {where}" if table else where,
                    expected="files of which every row is read once",
                    fix="write the current version of the table to Parquet files of its own, and "
                    "name these",
                )


def table_around(fs: Any, folder: str) -> str | None:
    """The kind of the table that a folder is part of, if any.

    On a remote filesystem, where one may not be allowed to look further up, that it has itself.
    """
    levels = LEVELS if is_local(fs) else 1
    for at in [folder.rsplit("/", level)[0] for level in range(levels)]:
        for kind, log in (("Delta", "_delta_log"), ("Hudi", ".hoodie"), ("Iceberg", "metadata")):
            below = f"{at}/{log}"
            if at and fs.isdir(below):
                names = fs.ls(below, detail=False) if kind == "Iceberg" else ["/"]
                if any(KINDS[kind].search(f"{log}/{name.rpartition('/')[2]}") for name in names):
                    return kind
    return None
