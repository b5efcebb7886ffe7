"""An inspection as CSV: one line per combination of settings and bucket."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from .json_types import InspectionJson, RowJson, SourceJson
from .subject import SETTINGS

__all__ = ["to_csv"]

BUCKET = ("bucket", "low", "high", "targets", "share", "cumulative_share", "in_tail", "weight")
MASS = ("mass_before", "mass_after")
COLUMNS = ("path", *SETTINGS, "source", *BUCKET, *MASS)


def to_csv(inspection: InspectionJson, *, by_source: bool) -> str:
    """Returns the lines, below a header.

    Args:
        inspection: what `to_json` returns.
        by_source: whether lines for each source follow those for all sources, whose `source` is
            empty. A source's shares are shares of all targets, so they add up to those for all.
    """
    text = io.StringIO()
    writer: Any = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for subject in inspection["subjects"]:
        for row in subject["rows"]:
            settings = row["settings"]
            common = {
                "path": subject["path"],
                **{name: settings[name] for name in SETTINGS},
                "mixing": json.dumps(settings["mixing"], ensure_ascii=False),
            }
            writer.writerows({**common, **line} for line in _lines(row, by_source))
    return text.getvalue()


def _lines(row: RowJson, by_source: bool) -> Iterator[dict[str, Any]]:
    for bucket in row["buckets"]:
        yield {name: bucket[name] for name in (*BUCKET, *MASS)} | {"source": ""}
    for source in row["sources"] if by_source else ():
        yield from _source_lines(row, source)


def _source_lines(row: RowJson, source: SourceJson) -> Iterator[dict[str, Any]]:
    targets = max(1, row["targets"])
    mass = sum(bucket["targets"] * bucket["weight"] for bucket in row["buckets"]) or 1.0
    reached = 0
    for bucket, count in zip(row["buckets"], source["histogram"], strict=True):
        reached += count
        yield {
            **{name: bucket[name] for name in BUCKET},
            "source": source["name"],
            "targets": count,
            "share": count / targets,
            "cumulative_share": reached / targets,
            "mass_before": count / targets,
            "mass_after": count * bucket["weight"] / mass,
        }
