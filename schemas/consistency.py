"""Whether the numbers of a shard set's manifest agree with each other.

A JSON schema cannot say it, and readers rely on it: they add up windows, look weights up by bucket,
and make arrays as long as the manifest tells them to. `exactcpt verify` does not use this: it works
out every number from the shards.
"""

from collections.abc import Iterator
from typing import NamedTuple

from .errors import FormatError
from .manifest import Manifest
from .shard import SPLITS, TRAIN
from .sizes import plural
from .weights import bucket_ranges, is_weight

__all__ = ["SEE_VERIFY", "check_consistency"]

SEE_VERIFY = "run `exactcpt verify` on the shard set to see all that is wrong"
BYTES_PER_TOKEN = 5
"""Of a shard, which is not compressed: an int32 and a code."""


class _Contradiction(NamedTuple):
    """What the manifest has, and what it would have to have by its other numbers."""

    found: str
    expected: str


def check_consistency(manifest: Manifest, where: str) -> None:
    """Checks a manifest that is valid by its schema.

    Raises:
        FormatError: two of its numbers contradict each other, or a weight is none.
    """
    wrong = next(_wrong_lengths(manifest), None) or next(_wrong_numbers(manifest), None)
    if wrong is not None:
        raise FormatError(
            f"the manifest has {wrong.found}",
            where=where,
            expected=wrong.expected,
            fix=SEE_VERIFY,
        )


def _wrong_lengths(manifest: Manifest) -> Iterator[_Contradiction]:
    """Everything that has to have one entry per bucket and does not."""
    window = manifest["settings"]["window"]
    buckets = len(bucket_ranges(window))
    entries = {"a weight table": manifest["weights"]["table"]}
    if "table" in manifest["settings"]:
        entries["given weights"] = manifest["settings"]["table"]
    for split in SPLITS:
        entries[f"a histogram of {split}"] = manifest["splits"][split]["histogram"]
        for source in manifest["sources"]:
            name = f"a histogram of {split} in source {source['name']!r}"
            entries[name] = source["splits"][split]["histogram"]
    for what, rows in entries.items():
        if len(rows) != buckets:
            yield _Contradiction(
                f"{what} of {plural(len(rows), 'bucket')}",
                f"{buckets}, for windows of {window:,} tokens",
            )


def _wrong_numbers(manifest: Manifest) -> Iterator[_Contradiction]:
    yield from _wrong_buckets(manifest)
    for split in SPLITS:
        yield from _wrong_counts(manifest, split)
        yield from _wrong_shards(manifest, split)


def _wrong_buckets(manifest: Manifest) -> Iterator[_Contradiction]:
    ranges = bucket_ranges(manifest["settings"]["window"])
    counts = manifest["splits"][TRAIN]["histogram"]
    rows = zip(manifest["weights"]["table"], ranges, counts, strict=True)
    for b, (row, (low, high), count) in enumerate(rows):
        if (row["bucket"], row["low"], row["high"]) != (b, low, high):
            yield _Contradiction(
                f"a bucket {row['bucket']} with contexts {row['low']} to {row['high']}",
                f"bucket {b} with contexts {low} to {high}",
            )
        if row["targets"] != count:
            yield _Contradiction(
                f"a weight table with {plural(row['targets'], 'target')} in bucket {b}",
                f"{count:,}, as in the histogram of {TRAIN}",
            )
        if not is_weight(row["weight"]):
            yield _Contradiction(
                f"the weight {row['weight']} in bucket {b}",
                "a finite number above 0, in float32 too",
            )


def _wrong_counts(manifest: Manifest, split: str) -> Iterator[_Contradiction]:
    whole, window = manifest["splits"][split], manifest["settings"]["window"]
    sums = {
        "windows": sum(entry["windows"] for entry in manifest["shards"][split]),
        "targets": sum(whole["histogram"]),
        "tokens": whole["windows"] * window - whole["padding"],
    }
    for name, expected in sums.items():
        if whole[name] != expected:
            yield _Contradiction(
                f"{whole[name]:,} {name} in {split}", f"{expected:,}, by its other numbers"
            )
    of_sources = [source["splits"][split]["histogram"] for source in manifest["sources"]]
    by_source = [sum(counts) for counts in zip(*of_sources, strict=True)]
    if of_sources and by_source != whole["histogram"]:
        yield _Contradiction(
            f"a histogram of {split} that is not the sum of those of its sources",
            f"{by_source}",
        )


def _wrong_shards(manifest: Manifest, split: str) -> Iterator[_Contradiction]:
    per_window = BYTES_PER_TOKEN * manifest["settings"]["window"]
    for entry in manifest["shards"][split]:
        fewest = entry["windows"] * per_window
        if entry["bytes"] < fewest:
            yield _Contradiction(
                f"a shard of {plural(entry['windows'], 'window')} in {entry['bytes']:,} bytes: "
                f"{entry['path']}",
                f"at least {fewest:,} bytes",
            )
