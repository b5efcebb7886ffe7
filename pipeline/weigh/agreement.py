"""Whether rows that say in several columns where their segments are say the same in each."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ..core.boundaries import CutError, cut_rows
from ..core.choices import BOUNDARIES, Boundaries
from ..sources.reading import read_member
from ..sources.splits import Member
from ..tokens.plan import TokenizePlan
from .lists import lists_of

__all__ = ["refuse_contradictions"]


def refuse_contradictions(
    plan: TokenizePlan, source: str, columns: Sequence[str], pad_id: int
) -> None:
    """Compares the first rows of a source, cut by each column that can tell their segments.

    Args:
        plan: with the source's files and fields.
        source: its name.
        columns: those of its first file.
        pad_id: the token that fills its rows.

    Raises:
        UsageError: two columns cut a row differently.
    """
    kinds: list[Boundaries] = [kind for kind in BOUNDARIES if kind in columns]
    if len(kinds) < 2:
        return
    first, *others = kinds
    read = _first_rows(plan, source, first, pad_id)
    if isinstance(read, CutError):  # whoever reads the rows says so
        return
    for kind in others:
        other = _first_rows(plan, source, kind, pad_id)
        row = other.row if isinstance(other, CutError) else _first_difference(read, other)
        if row is not None:
            raise UsageError(
                f"source {source!r}: the columns {first!r} and {kind!r} put the boundaries of "
                "documents at different places",
                where=f"{plan.files[source][0].url}, row {row + 1:,}",
                expected="the same segments in both",
                fix="find out which of them is right, and name it with --boundaries",
            )


def _first_rows(
    plan: TokenizePlan, source: str, kind: Boundaries, pad_id: int
) -> list[NDArray[np.int64]] | CutError:
    """The segments of each of the first rows, or why they cannot be told."""
    fields = replace(plan.fields[source], boundaries=kind)
    batch = next(read_member(Member(file=plan.files[source][0]), fields), None)
    if batch is None or batch.boundaries is None:
        return []
    try:
        cut = cut_rows(
            lists_of(batch.content),
            kind,
            lists_of(batch.boundaries),
            end_id=plan.eos_id,
            pad_id=pad_id,
        )
    except CutError as error:
        return error
    return np.split(cut.lengths, np.cumsum(cut.counts)[:-1])


def _first_difference(some: list[NDArray[np.int64]], others: list[NDArray[np.int64]]) -> int | None:
    # Of a column with longer values, fewer rows are read at once.
    pairs = enumerate(zip(some, others, strict=False))
    return next((row for row, (a, b) in pairs if not np.array_equal(a, b)), None)
