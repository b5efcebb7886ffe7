"""Folders of table formats, which keep the rows of older versions in files of their own.

Reading all files of such a folder would read rows several times, and rows that were deleted.
"""

import re
from collections.abc import Iterable

from ...schemas.errors import ExactcptError

__all__ = ["refuse_tables"]

KINDS = {
    "Delta": re.compile(r"(^|/)_delta_log/"),
    "Iceberg": re.compile(r"(^|/)metadata/[^/]*\.metadata\.json$"),
    "Hudi": re.compile(r"(^|/)\.hoodie/"),
}


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
