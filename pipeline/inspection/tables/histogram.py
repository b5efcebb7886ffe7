"""One combination of settings in full: its buckets as a histogram, and its figures."""

from collections.abc import Sequence

from rich.table import Table

from ....schemas.sizes import plural
from ..json_types import RowJson
from .printer import TAIL_STYLE, Printer
from .sources import print_source_buckets, print_sources
from .words import bucket_range, capacity, percent, settings_line, tail_sum

__all__ = ["print_histogram"]


def print_histogram(printer: Printer, row: RowJson, *, by_source: bool) -> None:
    """Prints a combination of settings, and the command that makes it."""
    printer.line(settings_line(row["settings"]))
    printer.line()
    _print_buckets(printer, row)
    printer.line()
    for text in _figures(row):
        printer.line(text)
    if by_source:
        printer.line()
        print_sources(printer, row)
        for source in row["sources"]:
            printer.line(f"\nsource {source['name']}\n")
            print_source_buckets(printer, row, source)
    printer.line()
    printer.verbatim(row["command"])


def _print_buckets(printer: Printer, row: RowJson) -> None:
    buckets, intervals = row["buckets"], row.get("intervals")
    largest = max(max(b["mass_before"], b["mass_after"]) for b in buckets)

    def table(width: int) -> Table:
        found = printer.new_table(
            "effective\ncontext",
            "\ntargets",
            "\nshare",
            *(["\n+-"] if intervals else []),
            "<",
            "up to\nhere",
            "\nweight",
            "weighted\nshare",
            "<",
        )
        for i, bucket in enumerate(buckets):
            found.add_row(
                bucket_range(bucket),
                f"{bucket['targets']:,}",
                f"{bucket['mass_before']:.2%}",
                *([_half(intervals["shares"][i])] if intervals else []),
                printer.bar(bucket["mass_before"], largest, width),
                f"{bucket['cumulative_share']:.1%}",
                f"{bucket['weight']:.4f}",
                f"{bucket['mass_after']:.2%}",
                printer.bar(bucket["mass_after"], largest, width),
                style=TAIL_STYLE if bucket["in_tail"] else None,
            )
        return found

    printer.table_with_bars(table, bars=2)


def _half(interval: Sequence[float] | None) -> str:
    return "-" if interval is None else f"{(interval[1] - interval[0]) / 2:.2%}"


def _figures(row: RowJson) -> list[str]:
    """The lines below a histogram."""
    if not row["targets"]:
        return ["there are no training targets"]
    return [
        "share: of the targets; weighted share: of the total loss weight, which is the sum of the "
        "targets' weights",
        *_tail_lines(row),
        f"effective sample size, (sum w)^2 / sum w^2: {row['effective_sample_size']:.2%} of the "
        f"targets; largest weight {row['largest_weight']:.4f}, "
        f"mean weight {row['mean_weight']:.4f}",
        *_window_lines(row),
        *_interval_lines(row),
    ]


def _tail_lines(row: RowJson) -> list[str]:
    tau, budget = row["settings"]["tau"], row["budget"]
    if row["tail_empty"]:
        return [
            f"the tail is empty: no bucket that begins at {tau:,} (tau) or later has targets; all "
            "weights are 1"
        ]
    asked = "with given weights" if budget["asked"] is None else f"asked for {budget['asked']:g}"
    return [
        f"* tail, the buckets from {tau:,} (tau) on: {tail_sum(row, 'share'):.2%} of the targets, "
        f"{tail_sum(row, 'mass_after'):.2%} of the total loss weight",
        f"mean extra weight in the tail (the budget, alpha): {budget['spent']:.4f}, {asked}",
    ]


def _window_lines(row: RowJson) -> list[str]:
    windows, split, documents = row["windows"], row["cut_documents"], row["documents"]
    return [
        f"{plural(windows, 'window')} of {row['settings']['window']:,} tokens, "
        f"padding {percent(row['padding'], capacity(row))}, "
        f"{row['segments'] / windows:.1f} segments per window; documents split across windows: "
        f"{split:,} of {documents:,} ({percent(split, documents)})",
        f"{plural(row['tail_windows'], 'window has', 'windows have')} a target in the tail "
        f"({percent(row['tail_windows'], windows)}); "
        f"the largest effective context is {row['largest_context']:,}",
    ]


def _interval_lines(row: RowJson) -> list[str]:
    if "intervals" not in row:
        return []
    intervals = row["intervals"]
    if intervals["reason"] is not None:
        return [f"no intervals: {intervals['reason']}"]
    figures = [
        _in_words("windows", intervals["windows"], ",.0f"),
        _in_words("tokens", intervals["tokens"], ",.0f"),
        _in_words("mean weight", intervals["mean_weight"], ".4f"),
    ]
    few = "- in the column +-: the sample has too few documents with targets there to tell"
    return [f"95% intervals: {', '.join(figures)}", *([few] if None in intervals["shares"] else [])]


def _in_words(figure: str, interval: Sequence[float] | None, form: str) -> str:
    if interval is None:
        return f"{figure} unknown"
    return f"{figure} {interval[0]:{form}} to {interval[1]:{form}}"
