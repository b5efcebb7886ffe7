"""An inspection as JSON, as `schemas/inspection.schema.json` describes it."""

from collections.abc import Iterable
from importlib.metadata import version

import numpy as np

from .json_types import (
    BucketJson,
    EstimatedJson,
    InspectionJson,
    RowJson,
    SampledJson,
    SourceJson,
    StoredSourceJson,
    SubjectJson,
)
from .subject import Row, Subject

__all__ = ["to_json"]

INSPECTION = "exactcpt inspection"
INSPECTION_VERSION = 1


def to_json(subjects: Iterable[Subject]) -> InspectionJson:
    """Returns what `--json` prints; see inspection.schema.json."""
    return {
        "format": INSPECTION,
        "format_version": INSPECTION_VERSION,
        "versions": {"exactcpt": version("exactcpt")},
        "subjects": [_subject(subject) for subject in subjects],
    }


def _subject(subject: Subject) -> SubjectJson:
    settings = subject.manifest["settings"]
    sources: list[StoredSourceJson] = [
        {
            "name": source["name"],
            "documents": source["read"]["documents"],
            "tokens": source["read"]["tokens"],
        }
        for source in subject.manifest["sources"]
    ]
    sampled: SampledJson = {} if subject.sample is None else {"sample": subject.sample}
    return {
        "path": subject.path,
        "kind": subject.kind,
        "tokenizer": subject.manifest["tokenizer"],
        "tokenize": settings.get("tokenize", settings),
        "documents": sum(source["documents"] for source in sources),
        "tokens": sum(source["tokens"] for source in sources),
        "sources": sources,
        "longest_document": subject.longest_document,
        **sampled,
        "rows": [_row(row) for row in subject.rows],
    }


def _row(row: Row) -> RowJson:
    exposure, weighting = row.exposure, row.weighting
    estimated: EstimatedJson = {} if row.intervals is None else {"intervals": row.intervals}
    return {
        "settings": row.settings,
        "windows": exposure.windows,
        "tokens": exposure.tokens,
        "padding": exposure.padding,
        "segments": exposure.segments,
        "documents": exposure.documents,
        "cut_documents": exposure.cut_documents,
        "targets": exposure.targets,
        "windows_by_largest": exposure.windows_by_largest.tolist(),
        "tail_windows": weighting.tail_windows,
        "largest_context": exposure.largest_context,
        "largest_weight": weighting.largest_weight,
        "mean_weight": weighting.mean_weight,
        "effective_sample_size": weighting.effective_sample_size,
        "budget": {"asked": row.settings["alpha"], "spent": weighting.table.budget},
        "tail_empty": weighting.table.tail_is_empty,
        "buckets": _buckets(row),
        "sources": _sources(row),
        "command": row.command,
        **estimated,
    }


def _buckets(row: Row) -> list[BucketJson]:
    weighting, targets = row.weighting, max(1, row.exposure.targets)
    cumulative = np.cumsum([bucket.targets for bucket in weighting.table.rows]).tolist()
    return [
        {
            "bucket": bucket.bucket,
            "low": bucket.low,
            "high": bucket.high,
            "targets": bucket.targets,
            "share": bucket.targets / targets,
            "cumulative_share": cumulative[i] / targets,
            "in_tail": bucket.in_tail,
            "tail_share": bucket.share,
            "inverse_frequency": bucket.inverse_frequency,
            "weight": bucket.weight,
            "mass_before": weighting.mass_before[i],
            "mass_after": weighting.mass_after[i],
        }
        for i, bucket in enumerate(weighting.table.rows)
    ]


def _sources(row: Row) -> list[SourceJson]:
    return [
        {
            "name": name,
            "documents": source.documents,
            "tokens": source.tokens,
            "targets": int(source.histogram.sum()),
            "histogram": source.histogram.tolist(),
            "tail_targets": weighed.tail_targets,
            "mass_before": weighed.mass_before,
            "mass_after": weighed.mass_after,
            "mean_weight": weighed.mean_weight,
        }
        for (name, source), weighed in zip(
            row.exposure.sources.items(), row.weighting.sources.values(), strict=True
        )
    ]
