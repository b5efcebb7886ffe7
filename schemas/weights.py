"""A weight table as a separate file: one weight per bucket, as JSON. See README.md."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import FormatError
from .manifest import FORMAT_VERSION, WEIGHT_TABLE, dump, parse
from .sizes import plural

__all__ = ["TABLE_SETTINGS", "bucket_ranges", "dump_table", "is_weight", "parse_table"]

TABLE_SETTINGS = ("tau", "alpha", "gamma", "epsilon", "max_weight")


def bucket_ranges(window: int) -> list[tuple[int, int]]:
    """The smallest and the largest effective context of every bucket, for a window length."""
    buckets = max(1, (window - 1).bit_length() - 2)
    lows = [0, *(2 ** (b + 2) for b in range(1, buckets))]
    return list(zip(lows, [*(low - 1 for low in lows[1:]), window - 1], strict=True))


def dump_table(window: int, weights: Sequence[float], settings: Mapping[str, Any] | None) -> bytes:
    """The bytes of a weight table.

    Args:
        window: window length in tokens.
        weights: one per bucket.
        settings: those of the shard set with these weights; None for weights from elsewhere.
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
    """Reads the weights of a table for windows of `window` tokens, one per bucket.

    Raises:
        FormatError: it is not a weight table, has a newer version, is for another window, does not
            have the buckets of its window, or has a weight that `is_weight` refuses.
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
            f"the weight table has {plural(len(rows), 'bucket')}",
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
                expected="a finite number above 0, in float32 too; 0 would mean no target",
            )
    return [float(row["weight"]) for row in rows]


def is_weight(value: float) -> bool:
    """Whether a shard can have this weight: in float32 it is a finite number above 0."""
    try:
        (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    except OverflowError:
        return False
    return math.isfinite(rounded) and rounded > 0
