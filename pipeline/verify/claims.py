"""The manifest's numbers: counts of what is in the shards, and the weights that follow from them.

Counts are compared with those of the windows that were read. The weight table is computed from the
train histogram by the formulas of the format's README; under a limit on weights, by bisection.
"""

import math
from typing import Any

import numpy as np

from ...schemas import shard
from ...schemas.manifest import FORMAT_VERSION, MANIFEST, SUPERVISED_VERSION, Manifest
from ...schemas.sizes import plural
from ...schemas.weights import is_weight
from .arrays import Array
from .report import TOLERANCE, Problems
from .windows import Windows, codes_of_contexts

__all__ = ["Counts", "check_counts", "check_version", "check_weights", "note_counts", "weight_rows"]


class Counts:
    """The counts of a split's shards.

    Attributes:
        codes: int64[sources + 2, codes], positions by source and by the code they should have. The
            last two rows are unknown sources and padding.
        documents: int64[sources + 2], segments that begin a document, by source.
        windows: all windows, including those that `codes` does not count.
        segments: segments without padding.
        cut_documents: documents split across windows, repeats counted.
    """

    def __init__(self, sources: int, buckets: int) -> None:
        self.codes = np.zeros((sources + 2, buckets + 1), np.int64)
        self.documents = np.zeros(sources + 2, np.int64)
        self.windows = self.segments = self.cut_documents = 0

    def add(self, w: Windows, codes: Array, source: Array | None) -> None:
        """Counts windows by the codes they should have.

        Args:
            w: the windows.
            codes: of all positions, end to end.
            source: of each segment that is no padding; None if the documents are unknown.
        """
        slots, n_codes = self.codes.shape
        is_padding = w.doc == shard.PADDING
        slot = np.where(is_padding, slots - 1, slots - 2).astype(np.int32)
        if source is not None:
            slot[~is_padding] = np.minimum(source, slots - 2)
        keys = np.repeat(slot * n_codes, w.length)
        keys += codes
        self.codes += np.bincount(keys, minlength=self.codes.size).reshape(self.codes.shape)
        self.documents += np.bincount(slot[w.offset == 0], minlength=slots)
        self.segments += int(np.count_nonzero(~is_padding))

    def merge(self, other: "Counts") -> None:
        """Adds the counts of other windows."""
        self.codes += other.codes
        self.documents += other.documents
        self.windows += other.windows
        self.segments += other.segments
        self.cut_documents += other.cut_documents

    @property
    def tokens(self) -> int:
        """Positions that are not padding."""
        return int(self.codes[:-1].sum())


def note_counts(counts: dict[str, Counts], window: int, problems: Problems) -> None:
    """Notes how much was checked."""
    windows = sum(count.windows for count in counts.values())
    segments = sum(count.segments for count in counts.values())
    tokens = sum(count.tokens for count in counts.values())
    problems.note("segments", f"{plural(segments, 'segment')} in {plural(windows, 'window')}")
    problems.note("codes", plural(windows * window, "position"))
    problems.note("tokens", plural(tokens, "token"))
    problems.note("packing", plural(segments, "segment"))


def check_counts(
    counts: dict[str, Counts], manifest: Manifest, by_source: bool, problems: Problems
) -> None:
    """Compares the counts of all windows, per split and, if documents are known, per source."""
    for split, count in counts.items():
        histogram = count.codes[:, 1:].sum(axis=0).tolist()
        found: dict[str, object] = {
            "windows": count.windows,
            "tokens": count.tokens,
            "padding": int(count.codes[-1].sum()),
            "segments": count.segments,
            "targets": sum(histogram),
            "histogram": histogram,
        }
        if by_source:
            found["cut_documents"] = count.cut_documents
        where = f"{MANIFEST}: splits.{split}"
        problems.claims("histogram", where, manifest["splits"][split], found)
        for i, source in enumerate(manifest["sources"] if by_source else ()):
            histogram = count.codes[i, 1:].tolist()
            found = {
                "documents": int(count.documents[i]),
                "tokens": int(count.codes[i].sum()),
                "targets": sum(histogram),
                "histogram": histogram,
            }
            where = f"{MANIFEST}: source {source['name']}, splits.{split}"
            problems.claims("histogram", where, source["splits"][split], found)
    problems.note(
        "histogram", f"{plural(len(counts), 'split')}, {plural(len(manifest['sources']), 'source')}"
    )


def check_version(manifest: Manifest, problems: Problems) -> None:
    """Compares the format version with the sources: answers and labels are supervised spans."""
    sources = manifest["settings"]["tokenize"].get("sources")
    has_answers = isinstance(sources, dict) and any(
        isinstance(source, dict) and {"answer", "messages", "labels"} & {*source}
        for source in sources.values()
    )
    expected = SUPERVISED_VERSION if has_answers else FORMAT_VERSION
    where = f"{MANIFEST}: format_version"
    problems.compare("schema", where, manifest["format_version"], expected)


def check_weights(manifest: Manifest, problems: Problems) -> None:
    """Compares the weight table with the train histogram, which is compared with the tokens."""
    settings, weights = manifest["settings"], manifest["weights"]
    alpha, ceiling, table = settings["alpha"], settings["max_weight"], weights["table"]
    given: list[float] | None = settings.get("table")
    problems.compare("weights", f"{MANIFEST}: weights.alpha", weights["alpha"], alpha)
    if not _is_settled(settings, problems):
        return
    if given is None and ceiling is not None and alpha > (ceiling - 1) * (1 + TOLERANCE):
        found = f"alpha {alpha}, max_weight {ceiling}"
        problems.add("weights", f"{MANIFEST}: settings", found, f"alpha at most {ceiling - 1}")
    buckets = int(codes_of_contexts(settings["window"]).max())
    histogram = manifest["splits"][shard.TRAIN]["histogram"]
    if not len(histogram) == len(table) == len(given or table) == buckets:
        found = f"{plural(len(histogram), 'bucket')} in the histogram, {len(table)} in the table"
        found += "" if given is None else f", {plural(len(given), 'weight')} given"
        problems.add("weights", MANIFEST, found, f"{buckets} each")
        return
    _check_table(weights, weight_rows(histogram, settings), settings, problems)


def _check_table(
    weights: Any, expected: list[dict[str, Any]], settings: Manifest, problems: Problems
) -> None:
    """Compares the table and its mean extra weight in the tail with what they should be."""
    table = weights["table"]

    def compare(where: str, found: object, expected: object) -> None:
        if not _close(found, expected):
            problems.add("weights", f"{MANIFEST}{where}", found, expected)

    for found, row in zip(table, expected, strict=True):
        for key, value in row.items():
            compare(f": weights.table, bucket {row['bucket']}, {key}", found[key], value)
    tail = [(found, row) for found, row in zip(table, expected, strict=True) if row["in_tail"]]
    spent = sum(row["share"] * (found["weight"] - 1) for found, row in tail)
    due = spent if "table" in settings else settings["alpha"] if tail else 0.0
    compare(": weights.budget", weights["budget"], due)
    compare(": sum of q (w - 1)", spent, due)
    extra = f"mean extra weight in the tail {spent:.6g}, expected {due:.6g}"
    problems.note("weights", f"{plural(len(table), 'bucket')}, {extra}")


def _is_settled(settings: Manifest, problems: Problems) -> bool:
    """Whether the settings have either the formulas' parameters or given weights, not both."""
    names = ("alpha", "gamma", "epsilon")
    absent = [name for name in names if settings[name] is None]
    if "table" not in settings and absent:
        found, expected = f"{absent[0]} null and no table", "a number, or a table"
    elif "table" in settings and (len(absent) < len(names) or settings["max_weight"] is not None):
        present = [name for name in (*names, "max_weight") if settings[name] is not None]
        found, expected = f"{present[0]} and a table", "one of them"
    else:
        bad = [w for w in settings.get("table", []) if not is_weight(w)]
        found, expected = f"the weight {bad[:1]}", "finite and above 0 in float32"
        if not bad:
            return True
    problems.add("weights", f"{MANIFEST}: settings", found, expected)
    return False


def _close(found: object, expected: object) -> bool:
    if isinstance(found, float | int) and isinstance(expected, float):
        return math.isclose(found, expected, rel_tol=TOLERANCE, abs_tol=TOLERANCE * 1e-3)
    return found == expected


def weight_rows(counts: list[int], settings: Manifest) -> list[dict[str, Any]]:
    """The weight table that a train histogram and the settings give.

    Given weights are taken as they are, and have no inverse frequency.
    """
    low = [0 if b == 0 else 2 ** (b + 2) for b in range(len(counts))]
    rows: list[dict[str, Any]] = [
        {
            "bucket": b,
            "low": low[b],
            "high": min(2 ** (b + 3), settings["window"]) - 1,
            "targets": count,
            "in_tail": low[b] >= settings["tau"] and count > 0,
            "share": None,
            "inverse_frequency": None,
            "weight": 1.0,
        }
        for b, count in enumerate(counts)
    ]
    tail = [row for row in rows if row["in_tail"]]
    total = sum(row["targets"] for row in tail)
    share = np.array([row["targets"] / total for row in tail])
    if "table" in settings:
        for row, weight in zip(rows, settings["table"], strict=True):
            row["weight"] = weight
        for row, q in zip(tail, share.tolist(), strict=True):
            row["share"] = q
        return rows
    with np.errstate(all="ignore"):
        inverse = (share + settings["epsilon"]) ** -float(settings["gamma"])
        extra = _extra(share, inverse, settings["alpha"], settings["max_weight"])
    columns = (share.tolist(), inverse.tolist(), (1 + extra).tolist())
    for row, *values in zip(tail, *columns, strict=True):
        row["share"], row["inverse_frequency"], row["weight"] = values
    return rows


def _extra(share: Array, inverse: Array, alpha: float, max_weight: float | None) -> Array:
    """w_b - 1 over the tail; under a limit by bisection, since the sum rises with lambda."""
    if not len(share):
        return share
    if max_weight is None:
        return alpha * inverse / (share * inverse).sum()
    low, high = 0.0, float((max_weight - 1) / inverse.min())
    for _ in range(200):
        middle = (low + high) / 2
        spent = (share * np.minimum(max_weight - 1, middle * inverse)).sum()
        low, high = (middle, high) if spent < alpha else (low, middle)
    return np.minimum(max_weight - 1, high * inverse)
