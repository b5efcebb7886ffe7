"""An inspection as tables for a terminal: a histogram, a line a combination, or two side by side.

What is shown is what `--json` has. The tail is marked with `*`, so that nobody needs colours.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.parameters import PARAMETERS
from ..pack.settings import ALWAYS_NAMED
from ..terminal import bar

__all__ = ["SETTINGS", "print_inspection"]

Subject = Mapping[str, Any]
Row = Mapping[str, Any]
SETTINGS = (
    "window",
    "packing",
    *PARAMETERS,
    "mixing",
    "token_budget",
    "dedup",
    "validation_fraction",
    "group_tokens",
    "seed",
)
WIDEST_BAR = 16
NARROWEST_BAR = 3


def print_inspection(inspection: Mapping[str, Any], console: Any, *, by_source: bool) -> None:
    """Prints an inspection.

    Args:
        inspection: as `inspection.to_json` makes it.
        console: of rich, with the width and encoding to print for.
        by_source: whether the sources are shown, too.
    """
    subjects = inspection["subjects"]
    show = _Show(console)
    for subject in subjects:
        show.line(_heading(subject))
        if "sample" in subject:
            show.line(_sample_line(subject))
    if [len(subject["rows"]) for subject in subjects] == [1]:
        show.histogram(subjects[0]["rows"][0], by_source=by_source)
    elif [len(subject["rows"]) for subject in subjects] == [1, 1]:
        show.comparison(subjects, by_source=by_source)
    else:
        show.combinations(subjects, by_source=by_source)


def _heading(subject: Subject) -> str:
    about = "about " if "sample" in subject else ""
    return (
        f"{subject['path']}: {subject['kind']}, {about}{subject['documents']:,} documents, "
        f"{subject['tokens']:,} tokens, longest {subject['longest_document']:,}"
    )


def _sample_line(subject: Subject) -> str:
    sample = subject["sample"]
    return (
        f"an estimate from {sample['documents']:,} documents with {sample['tokens']:,} tokens, "
        f"{sample['fraction']:.2%} of the documents; +- is half of a 95% interval"
    )


def _settings_line(settings: Mapping[str, Any], names: Sequence[str] = SETTINGS) -> str:
    """The settings that people ask about, and those that are not as they are by default."""
    from ..config import PackConfig

    fields = PackConfig.__dataclass_fields__
    shown = [
        f"{name.replace('_', ' ')} {_value(settings[name])}"
        for name in names
        if name in ALWAYS_NAMED
        or (name == "mixing" and _mixing(settings[name]) != "-")
        or (name != "mixing" and settings[name] != fields[name].default)
    ]
    return ", ".join(shown)


def _mixing(mixing: Mapping[str, Any]) -> str:
    """How often sources are seen; those that are seen once are not named."""
    mixed = [
        f"{name} {kind} {amount:g}"
        for name, asked in mixing.items()
        for kind, amount in asked.items()
        if (kind, amount) != ("epochs", 1)
    ]
    return ", ".join(mixed) or "-"


def _value(value: Any) -> str:
    """A setting as a person reads it; the only mapping among them is `mixing`."""
    if isinstance(value, Mapping):
        return _mixing(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(map(_value, value))
    return (
        f"{value:,}"
        if isinstance(value, int)
        else f"{value:g}"
        if isinstance(value, float)
        else value
    )


def _range(bucket: Mapping[str, Any]) -> str:
    return f"{bucket['low']}-{bucket['high']}{' *' if bucket['in_tail'] else '  '}"


def _part(count: float, total: float) -> str:
    return f"{count / total:.2%}" if total else "-"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _tail(row: Row, key: str) -> float:
    return sum(bucket[key] for bucket in row["buckets"] if bucket["in_tail"])


def _capacity(row: Row) -> int:
    return row["windows"] * row["settings"]["window"]


class _Column(NamedTuple):
    """A figure of a combination: its title, and how it reads."""

    title: str
    show: Callable[[Row], str]


COLUMNS = {
    "windows": _Column("\n\nwindows", lambda row: f"{row['windows']:,}"),
    "padding": _Column("\npad-\nding", lambda row: _part(row["padding"], _capacity(row))),
    "cut documents": _Column(
        "cut\ndocu-\nments", lambda row: _part(row["cut_documents"], row["documents"])
    ),
    "tail": _Column("tail's\nshare of\ntargets", lambda row: f"{_tail(row, 'share'):.2%}"),
    "weighted share": _Column("weigh-\nted\nshare", lambda row: f"{_tail(row, 'mass_after'):.2%}"),
    "tail windows": _Column(
        "windows\nwith a\ntail", lambda row: _part(row["tail_windows"], row["windows"])
    ),
    "largest weight": _Column("largest\n\nweight", lambda row: f"{row['largest_weight']:.3f}"),
    "effective sample": _Column(
        "effec-\ntive\nsample", lambda row: _figure(row["effective_sample_size"], ".2%")
    ),
}
LEAST_WANTED = (
    "cut documents",
    "windows",
    "weighted share",
    "padding",
    "largest weight",
    "effective sample",
    "tail windows",
)
"""Figures in the order in which a narrow terminal goes without them."""


class _Show:
    """Prints on a console, in characters that it has."""

    def __init__(self, console: Any) -> None:
        self._console = console
        self._ascii = console.options.ascii_only

    def line(self, text: str = "") -> None:
        """Prints a paragraph."""
        self._console.print(text, markup=False, highlight=False)

    def verbatim(self, text: str) -> None:
        """Prints a line that may be copied: it is not folded."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def histogram(self, row: Row, *, by_source: bool) -> None:
        """One combination of settings in full."""
        self.line(_settings_line(row["settings"]))
        self.line()
        self._buckets(row)
        self.line()
        for text in _figures(row):
            self.line(text)
        if by_source:
            self.line()
            self._sources(row)
            for source in row["sources"]:
                self.line(f"\nsource {source['name']}\n")
                self._source_buckets(row, source)
        self.line()
        self.verbatim(row["command"])

    def _buckets(self, row: Row) -> None:
        buckets, intervals = row["buckets"], row.get("intervals")
        largest = max(max(b["mass_before"], b["mass_after"]) for b in buckets)

        def table(width: int) -> Any:
            found = self._table(
                "effective\ncontext",
                "\ntargets",
                "\nshare",
                *(["\n+-"] if intervals else []),
                "<",
                "cumu-\nlative",
                "\nweight",
                "weighted\nshare",
                "<",
            )
            for i, bucket in enumerate(buckets):
                found.add_row(
                    _range(bucket),
                    f"{bucket['targets']:,}",
                    f"{bucket['mass_before']:.2%}",
                    *([_half(intervals["shares"][i])] if intervals else []),
                    self._bar(bucket["mass_before"], largest, width),
                    f"{bucket['cumulative_share']:.1%}",
                    f"{bucket['weight']:.4f}",
                    f"{bucket['mass_after']:.2%}",
                    self._bar(bucket["mass_after"], largest, width),
                    style="cyan" if bucket["in_tail"] else None,
                )
            return found

        self._print_with_bars(table, bars=2)

    def _source_buckets(self, row: Row, source: Mapping[str, Any]) -> None:
        def table(width: int) -> Any:
            found = self._table(
                "effective\ncontext",
                "\ntargets",
                "share of\nthe source",
                "<",
                "share of\nthe bucket",
                "\nweight",
            )
            for bucket, count in zip(row["buckets"], source["histogram"], strict=True):
                found.add_row(
                    _range(bucket),
                    f"{count:,}",
                    _part(count, source["targets"]),
                    self._bar(count, max(source["histogram"]), width),
                    _part(count, bucket["targets"]),
                    f"{bucket['weight']:.4f}",
                    style="cyan" if bucket["in_tail"] else None,
                )
            return found

        self._print_with_bars(table, bars=1)

    def _sources(self, row: Row) -> None:
        """What each source has of the targets, of the tail, and of the loss mass."""
        table = self._table(
            "\nsource",
            "\ntokens",
            "share of\ntargets",
            "weighted\nshare",
            "share of\nthe tail",
            "tail in\nthe source",
            "mean\nweight",
        )
        tail = sum(source["tail_targets"] for source in row["sources"])
        for source in row["sources"]:
            table.add_row(
                source["name"],
                f"{source['tokens']:,}",
                f"{source['mass_before']:.2%}",
                f"{source['mass_after']:.2%}",
                _part(source["tail_targets"], tail),
                _part(source["tail_targets"], source["targets"]),
                _figure(source["mean_weight"], ".4f"),
            )
        self._console.print(table)

    def combinations(self, subjects: Sequence[Subject], *, by_source: bool) -> None:
        """A line a combination, with the settings in which they differ."""
        rows = [(subject["path"], row) for subject in subjects for row in subject["rows"]]
        varying = [
            name
            for name in SETTINGS
            if len({json.dumps(row["settings"][name], sort_keys=True) for _, row in rows}) > 1
        ]
        several = len(subjects) > 1
        first = rows[0][1]["settings"]
        self.line(_settings_line(first, [name for name in SETTINGS if name not in varying]))
        self.line()
        columns = dict(COLUMNS)

        def table() -> Any:
            found = self._table(
                *(["\n\npath"] if several else []),
                *(f"\n\n{name}".replace("_", "\n")[-20:] for name in varying),
                *(column.title for column in columns.values()),
            )
            for path, row in rows:
                found.add_row(
                    *([path] if several else []),
                    *(_value(row["settings"][name]) for name in varying),
                    *(column.show(row) for column in columns.values()),
                )
            return found

        for name in LEAST_WANTED:
            if self._fits(table()):
                break
            del columns[name]
        self._console.print(table())
        if len(columns) < len(COLUMNS):
            missing = ", ".join(name for name in COLUMNS if name not in columns)
            self.line(f"\nnot shown for want of room, but in --json: {missing}")
        for path, row in rows if by_source else ():
            named = _settings_line(row["settings"], varying or ALWAYS_NAMED)
            self.line(f"\n{path + ': ' if several else ''}{named}\n")
            self._sources(row)

    def comparison(self, subjects: Sequence[Subject], *, by_source: bool) -> None:
        """Two subjects with one combination each: A is the first."""
        self.line()
        self._differences(*subjects)
        one, other = (subject["rows"][0] for subject in subjects)
        self.line()
        self._two_histograms(one, other)
        self.line()
        self._two_figures(one, other)
        if by_source:
            self.line()
            self._two_sources(one, other)

    def _differences(self, one: Subject, other: Subject) -> None:
        found = _differences(one, other)
        if not found:
            self.line("A and B have the same settings, tokenizer and sources")
            return
        table = self._table("differs", "<A", "<B")
        for name, a, b in found:
            table.add_row(name, a, b)
        for column in table.columns[1:]:
            column.no_wrap, column.overflow = False, "fold"
        self._console.print(table)

    def _two_histograms(self, one: Row, other: Row) -> None:
        table = self._table(
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
        most = max(len(one["buckets"]), len(other["buckets"]))
        nothing = {"in_tail": False, "mass_before": 0.0, "mass_after": 0.0, "weight": None}
        for i in range(most):
            a, b = (r["buckets"][i] if i < len(r["buckets"]) else nothing for r in (one, other))
            both = a if "low" in a and a.get("high", 0) >= b.get("high", 0) else b
            table.add_row(
                f"{both['low']}-{both['high']} {_which(a['in_tail'], b['in_tail'])}",
                f"{a['mass_before']:.2%}",
                f"{b['mass_before']:.2%}",
                f"{b['mass_before'] - a['mass_before']:+.2%}",
                _figure(a["weight"], ".4f"),
                _figure(b["weight"], ".4f"),
                f"{a['mass_after']:.2%}",
                f"{b['mass_after']:.2%}",
                f"{b['mass_after'] - a['mass_after']:+.2%}",
                style="cyan" if a["in_tail"] or b["in_tail"] else None,
            )
        self._console.print(table)
        self.line("\n* tail of both, a of A alone, b of B alone")

    def _two_figures(self, one: Row, other: Row) -> None:
        table = self._table("figure", "A", "B", "B - A")
        counts = ("windows", "tokens", "padding", "segments", "documents", "cut_documents")
        for name in (*counts, "targets", "tail_windows", "largest_context"):
            a, b = one[name], other[name]
            table.add_row(name.replace("_", " "), f"{a:,}", f"{b:,}", f"{b - a:+,}")
        for name, of in _FRACTIONS.items():
            a, b = of(one), of(other)
            difference = None if a is None or b is None else b - a
            table.add_row(name, _figure(a, ".4f"), _figure(b, ".4f"), _figure(difference, "+.4f"))
        self._console.print(table)

    def _two_sources(self, one: Row, other: Row) -> None:
        table = self._table(
            "\nsource", "share\nA", "\nB", "weighted\nshare A", "\nB", "share of\ntail A", "\nB"
        )
        sides = [{s["name"]: s for s in row["sources"]} for row in (one, other)]
        tails = [sum(s["tail_targets"] for s in side.values()) for side in sides]
        nothing = {"mass_before": 0.0, "mass_after": 0.0, "tail_targets": 0}
        for name in dict.fromkeys([*sides[0], *sides[1]]):
            a, b = (side.get(name, nothing) for side in sides)
            table.add_row(
                name,
                *(f"{s['mass_before']:.2%}" for s in (a, b)),
                *(f"{s['mass_after']:.2%}" for s in (a, b)),
                *(_part(s["tail_targets"], t) for s, t in zip((a, b), tails, strict=True)),
            )
        self._console.print(table)

    def _bar(self, value: float, largest: float, width: int) -> str:
        return bar(value, largest, width, ascii_only=self._ascii)

    def _print_with_bars(self, table: Callable[[int], Any], bars: int) -> None:
        """Prints a table with bars as wide as there is room for."""
        from rich.measure import Measurement

        without = Measurement.get(self._console, self._wide(), table(0)).maximum
        room = (self._console.width - without) // bars
        self._console.print(table(max(NARROWEST_BAR, min(WIDEST_BAR, room))))

    def _wide(self) -> Any:
        return self._console.options.update(width=10_000)

    def _fits(self, table: Any) -> bool:
        from rich.measure import Measurement

        return Measurement.get(self._console, self._wide(), table).maximum <= self._console.width

    def _table(self, *columns: str) -> Any:
        """The first column and those that begin with `<` are on the left, numbers on the right."""
        from rich.box import SIMPLE_HEAD, Box
        from rich.table import Table

        plain = Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)
        table = Table(
            box=plain if self._ascii else SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False
        )
        for i, column in enumerate(columns):
            left = i == 0 or column.startswith("<")
            table.add_column(
                column.removeprefix("<"), justify="left" if left else "right", no_wrap=True
            )
        return table


def _figures(row: Row) -> list[str]:
    """What there is to say below a histogram."""
    settings, windows = row["settings"], row["windows"]
    if not row["targets"]:
        return ["there are no training targets"]
    return [
        *_tail_lines(row),
        f"effective sample size {row['effective_sample_size']:.2%}, "
        f"largest weight {row['largest_weight']:.4f}, mean weight {row['mean_weight']:.4f}",
        f"{windows:,} windows of {settings['window']:,} tokens, "
        f"padding {_part(row['padding'], _capacity(row))}, "
        f"{row['segments'] / windows:.1f} segments a window; "
        f"{row['cut_documents']:,} of {row['documents']:,} documents are cut "
        f"({_part(row['cut_documents'], row['documents'])})",
        f"{row['tail_windows']:,} windows have a target in the tail "
        f"({_part(row['tail_windows'], windows)}); "
        f"the largest effective context is {row['largest_context']:,}",
        *_interval_lines(row),
    ]


def _tail_lines(row: Row) -> list[str]:
    tau, budget = row["settings"]["tau"], row["budget"]
    if row["tail_empty"]:
        return [
            f"the tail is empty: no target is in a bucket that begins at {tau:,} (tau) or later, "
            f"the largest effective context is {row['largest_context']:,}; all weights are 1"
        ]
    return [
        f"* tail, from {tau:,} on: {_tail(row, 'share'):.2%} of the targets, "
        f"{_tail(row, 'mass_after'):.2%} of the weighted loss mass",
        f"budget: mean extra weight of the tail's targets {budget['spent']:.4f}, "
        + ("with given weights" if budget["asked"] is None else f"asked for {budget['asked']:g}"),
    ]


def _half(interval: Sequence[float]) -> str:
    return f"{(interval[1] - interval[0]) / 2:.2%}"


def _interval_lines(row: Row) -> list[str]:
    intervals = row.get("intervals")
    if intervals is None:
        return []
    (low, high), (few, many), (light, heavy) = (
        intervals[name] for name in ("windows", "tokens", "mean_weight")
    )
    return [
        f"95% intervals: {low:,.0f} to {high:,.0f} windows, {few:,.0f} to {many:,.0f} tokens, "
        f"mean weight {light:.4f} to {heavy:.4f}"
    ]


def _padding(row: Row) -> float | None:
    return row["padding"] / _capacity(row) if row["windows"] else None


_FRACTIONS: dict[str, Callable[[Row], float | None]] = {
    "padding, part of windows": _padding,
    "tail's share of targets": lambda row: _tail(row, "share"),
    "tail's weighted share": lambda row: _tail(row, "mass_after"),
    "windows with a tail target": lambda row: (
        row["tail_windows"] / row["windows"] if row["windows"] else None
    ),
    "largest weight": lambda row: row["largest_weight"],
    "mean weight": lambda row: row["mean_weight"],
    "effective sample size": lambda row: row["effective_sample_size"],
    "budget spent": lambda row: row["budget"]["spent"],
}


def _which(in_a: bool, in_b: bool) -> str:
    return {(True, True): "*", (True, False): "a", (False, True): "b"}.get((in_a, in_b), " ")


def _differences(one: Subject, other: Subject) -> list[tuple[str, str, str]]:
    """Name and both values of what differs: kind, tokenizer, settings, what sources hold."""
    found: list[tuple[str, str, str]] = []

    def compare(prefix: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
        for name in dict.fromkeys([*a, *b]):
            x, y = a.get(name), b.get(name)
            if name != "mixing" and (isinstance(x, Mapping) or isinstance(y, Mapping)):
                compare(f"{prefix}{name} ", x or {}, y or {})
            elif x != y and _value(x) != _value(y):
                found.append((f"{prefix}{name}".replace("_", " "), _value(x), _value(y)))

    def holds(subject: Subject) -> dict[str, Any]:
        return {
            source["name"]: {key: source[key] for key in ("documents", "tokens")}
            for source in subject["sources"]
        }

    compare("", {"path": one["path"], "kind": one["kind"]}, {k: other[k] for k in ("path", "kind")})
    compare("", *(subject["rows"][0]["settings"] for subject in (one, other)))
    compare("tokenizer ", one["tokenizer"], other["tokenizer"])
    compare("tokenize ", one["tokenize"], other["tokenize"])
    compare("source ", holds(one), holds(other))
    return found
