"""Two subjects with one combination of settings each, side by side: A is the first."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..json_types import BucketJson, RowJson, SourceJson, SubjectJson
from .printer import TAIL_STYLE, Printer
from .words import capacity, figure, percent, tail_sum, value_text

__all__ = ["print_comparison"]

COUNTS: Mapping[str, Callable[[RowJson], int]] = {
    "windows": lambda row: row["windows"],
    "windows with a tail target": lambda row: row["tail_windows"],
    "tokens": lambda row: row["tokens"],
    "padding": lambda row: row["padding"],
    "segments": lambda row: row["segments"],
    "documents, repeats counted": lambda row: row["documents"],
    "documents split across windows": lambda row: row["cut_documents"],
    "targets": lambda row: row["targets"],
    "largest effective context": lambda row: row["largest_context"],
}
RATIOS: Mapping[str, Callable[[RowJson], float | None]] = {
    "padding, share of windows": lambda row: (
        row["padding"] / capacity(row) if row["windows"] else None
    ),
    "tail, share of targets": lambda row: tail_sum(row, "share"),
    "tail, share of total loss weight": lambda row: tail_sum(row, "mass_after"),
    "share of windows with a tail target": lambda row: (
        row["tail_windows"] / row["windows"] if row["windows"] else None
    ),
    "largest weight": lambda row: row["largest_weight"],
    "mean weight": lambda row: row["mean_weight"],
    "mean extra weight in the tail": lambda row: row["budget"]["spent"],
    "effective sample size": lambda row: row["effective_sample_size"],
}


def print_comparison(
    printer: Printer, one: SubjectJson, other: SubjectJson, *, by_source: bool
) -> None:
    """Prints what differs between two subjects, their buckets, and their figures."""
    printer.line()
    _print_differences(printer, one, other)
    (a,), (b,) = one["rows"], other["rows"]
    printer.line()
    _print_buckets(printer, a, b)
    printer.line()
    _print_figures(printer, a, b)
    if by_source:
        printer.line()
        _print_sources(printer, a, b)


def _print_differences(printer: Printer, one: SubjectJson, other: SubjectJson) -> None:
    found = _differences(one, other)
    if not found:
        printer.line("A and B have the same settings, tokenizer and sources")
        return
    table = printer.new_table("differs", "<A", "<B")
    for name, a, b in found:
        table.add_row(name, a, b)
    for column in table.columns[1:]:
        column.no_wrap, column.overflow = False, "fold"
    printer.table(table)


def _differences(one: SubjectJson, other: SubjectJson) -> list[tuple[str, str, str]]:
    """Name and both values of what differs: kind, tokenizer, settings, what sources hold."""
    found: list[tuple[str, str, str]] = []

    def compare(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*a, *b]):
            x, y = a.get(name), b.get(name)
            if name != "mixing" and (isinstance(x, Mapping) or isinstance(y, Mapping)):
                compare(f"{prefix}{name} ", x or {}, y or {})
            elif x != y and value_text(x) != value_text(y):
                found.append((f"{prefix}{name}".replace("_", " "), value_text(x), value_text(y)))

    def identity(subject: SubjectJson) -> dict[str, str]:
        return {"path": subject["path"], "kind": subject["kind"]}

    def holds(subject: SubjectJson) -> dict[str, Any]:
        return {
            source["name"]: {"documents": source["documents"], "tokens": source["tokens"]}
            for source in subject["sources"]
        }

    compare("", identity(one), identity(other))
    compare("", *(subject["rows"][0]["settings"] for subject in (one, other)))
    compare("tokenizer ", one["tokenizer"], other["tokenizer"])
    compare("tokenize ", one["tokenize"], other["tokenize"])
    compare("source ", holds(one), holds(other))
    return found


def _print_buckets(printer: Printer, one: RowJson, other: RowJson) -> None:
    table = printer.new_table(
        "effective\ncontext",
        "share\nA",
        "\nB",
        "\nB - A",
        "weight\nA",
        "\nB",
        "weighted\nshare A",
        "\nB",
        "\nB - A",
    )
    for i in range(max(len(one["buckets"]), len(other["buckets"]))):
        a, b = (row["buckets"][i] if i < len(row["buckets"]) else None for row in (one, other))
        before = [0.0 if bucket is None else bucket["mass_before"] for bucket in (a, b)]
        after = [0.0 if bucket is None else bucket["mass_after"] for bucket in (a, b)]
        table.add_row(
            _range(a, b),
            *_with_difference(before, ".2%"),
            *(figure(None if bucket is None else bucket["weight"], ".4f") for bucket in (a, b)),
            *_with_difference(after, ".2%"),
            style=TAIL_STYLE if _tail_mark(a, b) != " " else None,
        )
    printer.table(table)
    printer.line("\nshare: of the targets; weighted share: of the total loss weight")
    printer.line("* in the tail of both, a of A alone, b of B alone")


def _range(a: BucketJson | None, b: BucketJson | None) -> str:
    """The contexts of a bucket, the last of which may end earlier in one of the two."""
    widest = max((bucket for bucket in (b, a) if bucket), key=lambda bucket: bucket["high"])
    return f"{widest['low']}-{widest['high']} {_tail_mark(a, b)}"


def _tail_mark(a: BucketJson | None, b: BucketJson | None) -> str:
    in_a, in_b = (bucket is not None and bucket["in_tail"] for bucket in (a, b))
    return {(True, True): "*", (True, False): "a", (False, True): "b"}.get((in_a, in_b), " ")


def _with_difference(pair: Sequence[float | None], form: str) -> tuple[str, str, str]:
    """A, B and B - A, in the given format."""
    a, b = pair
    difference = None if a is None or b is None else b - a
    return figure(a, form), figure(b, form), figure(difference, f"+{form}")


def _print_figures(printer: Printer, one: RowJson, other: RowJson) -> None:
    table = printer.new_table("figure", "A", "B", "B - A")
    for name, count in COUNTS.items():
        table.add_row(name, *_with_difference((count(one), count(other)), ","))
    for name, ratio in RATIOS.items():
        table.add_row(name, *_with_difference((ratio(one), ratio(other)), ".4f"))
    printer.table(table)
    printer.line("\neffective sample size: (sum w)^2 / sum w^2, relative to the number of targets")


def _print_sources(printer: Printer, one: RowJson, other: RowJson) -> None:
    table = printer.new_table(
        "\nsource", "share\nA", "\nB", "weighted\nshare A", "\nB", "share of\ntail A", "\nB"
    )
    sides = [{source["name"]: source for source in row["sources"]} for row in (one, other)]
    tails = [sum(source["tail_targets"] for source in side.values()) for side in sides]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        pair = [side.get(name) for side in sides]
        table.add_row(
            name,
            *(f"{source['mass_before'] if source else 0:.2%}" for source in pair),
            *(f"{source['mass_after'] if source else 0:.2%}" for source in pair),
            *(percent(_in_tail(source), tail) for source, tail in zip(pair, tails, strict=True)),
        )
    printer.table(table)


def _in_tail(source: SourceJson | None) -> int:
    return 0 if source is None else source["tail_targets"]
