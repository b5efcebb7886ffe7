"""The sources of one combination of settings."""

from rich.table import Table

from ..json_types import RowJson, SourceJson
from .printer import TAIL_STYLE, Printer
from .words import bucket_range, figure, percent

__all__ = ["print_source_buckets", "print_sources"]


def print_sources(printer: Printer, row: RowJson) -> None:
    """Prints each source's share of the targets, of the loss weight, and of the tail."""
    table = printer.new_table(
        "\nsource",
        "\ntokens",
        "share of\ntargets",
        "weighted\nshare",
        "share of\nthe tail",
        "fraction\nin tail",
        "mean\nweight",
    )
    tail = sum(source["tail_targets"] for source in row["sources"])
    for source in row["sources"]:
        table.add_row(
            source["name"],
            f"{source['tokens']:,}",
            f"{source['mass_before']:.2%}",
            f"{source['mass_after']:.2%}",
            percent(source["tail_targets"], tail),
            percent(source["tail_targets"], source["targets"]),
            figure(source["mean_weight"], ".4f"),
        )
    printer.table(table)


def print_source_buckets(printer: Printer, row: RowJson, source: SourceJson) -> None:
    """Prints the histogram of one source."""

    def table(width: int) -> Table:
        found = printer.new_table(
            "effective\ncontext",
            "\ntargets",
            "share of\nthe source",
            "<",
            "share of\nthe bucket",
            "\nweight",
        )
        for bucket, count in zip(row["buckets"], source["histogram"], strict=True):
            found.add_row(
                bucket_range(bucket),
                f"{count:,}",
                percent(count, source["targets"]),
                printer.bar(count, max(source["histogram"]), width),
                percent(count, bucket["targets"]),
                f"{bucket['weight']:.4f}",
                style=TAIL_STYLE if bucket["in_tail"] else None,
            )
        return found

    printer.table_with_bars(table, bars=1)
