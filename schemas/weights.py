"""A weight table as a file of its own: one weight a bucket, as JSON. See README.md."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import FormatError
from .manifest import FORMAT_VERSION, WEIGHT_TABLE, dump, parse

__all__ = ["bucket_ranges", "dump_table", "is_weight", "parse_table"]

TABLE_SETTINGS = ("tau", "alpha", "gamma", "epsilon", "max_weight")


def bucket_ranges(window: int) -> list[tuple[int, int]]:
    """The smallest and the largest context of every bucket of windows of that many tokens."""
    buckets = max(1, (window - 1).bit_length() - 2)
    lows = [0, *(2 ** (b + 2) for b in range(1, buckets))]
    return list(zip(lows, [*(low - 1 for low in lows[1:]), window - 1], strict=True))


def dump_table(window: int, weights: Sequence[float], settings: Mapping[str, Any] | None) -> bytes:
    """A weight table's bytes.

    Args:
        window: window length in tokens.
        weights: one a bucket.
        settings: of a shard set whose weights these are; None for weights from elsewhere.
    """
    rows = zip(bucket_ranges(window), weights, strict=True)
    return dump(
        {
            "format": WEIGHT_TABLE,
            "format_version": FORMAT_VERSION,
            "window": window,
            "settings": settings and {name: settings[name] for name in TABLE_SETTINGS},
            "buckets": [
                {"bucket": b, "low": low, "high": high, "weight": weight}
                for b, ((low, high), weight) in enumerate(rows)
            ],
        }
    )


def parse_table(data: bytes, where: str, window: int) -> list[float]:
    """The weights of a table for windows of `window` tokens, one a bucket.

    Raises:
        FormatError: no weight table, or of a newer version, or for another window, or its buckets
            are not those of the window, or a weight is not finite and above 0 in float32.
    """
    table = parse(data, where, WEIGHT_TABLE)
    if table["window"] != window:
        raise FormatError(
            f"the weight table is for windows of {table['window']:,} tokens",
            where=where,
            expected=f"{window:,}",
            fix="write one for these shards with `exactcpt reweigh --table-only`",
        )
    ranges, rows = bucket_ranges(window), table["buckets"]
    if len(rows) != len(ranges):
        raise FormatError(
            f"the weight table has {len(rows)} buckets",
            where=where,
            expected=f"{len(ranges)} for windows of {window:,} tokens",
        )
    for b, (row, (low, high)) in enumerate(zip(rows, ranges, strict=True)):
        found, expected = (row["bucket"], row["low"], row["high"]), (b, low, high)
        if found != expected:
            raise FormatError(
                "bucket {} has contexts {} to {}".format(*found),
                where=f"{where} at $.buckets[{b}]",
                expected="bucket {} with contexts {} to {}".format(*expected),
            )
        if not is_weight(row["weight"]):
            raise FormatError(
                f"bucket {b} has weight {json.dumps(row['weight'])}",
                where=f"{where} at $.buckets[{b}].weight",
                expected="a number above 0 and finite, in float32 too; 0 means no target at all",
            )
    return [float(row["weight"]) for row in rows]


def is_weight(value: float) -> bool:
    """Whether a shard can have this weight: float32 holds it, as a finite number above 0."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return False
    return math.isfinite(rounded) and rounded > 0
