"""The corpora of a world as a table for a person."""

from collections.abc import Sequence

from rich.table import Table

from .corpus import Corpus

__all__ = ["corpus_table"]


def corpus_table(corpora: Sequence[Corpus]) -> Table:
    """A row for each corpus: its size, and what is expected of its targets."""
    table = Table()
    table.add_column("corpus")
    for heading in ("documents", "tokens", "targets in\nthe tail", "ideal loss,\nnats"):
        table.add_column(heading, justify="right")
    for corpus in corpora:
        tail = corpus.ideal.share_from(corpus.lengths.tau)
        table.add_row(
            corpus.name,
            f"{corpus.documents:,}",
            f"{corpus.tokens:,}",
            f"{tail:.1%}",
            f"{corpus.ideal.loss:.4f}",
        )
    return table
