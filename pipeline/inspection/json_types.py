"""The types of an inspection as JSON, key by key as in `schemas/inspection.schema.json`."""

from collections.abc import Mapping
from typing import Any, TypedDict

from ..pack.settings import Settings

__all__ = [
    "BucketJson",
    "BudgetJson",
    "EstimatedJson",
    "InspectionJson",
    "IntervalsJson",
    "RowJson",
    "SampleJson",
    "SampledJson",
    "SourceJson",
    "StoredSourceJson",
    "SubjectJson",
]


class BucketJson(TypedDict):
    """A bucket of effective contexts under one combination of settings."""

    bucket: int
    low: int
    high: int
    targets: int
    share: float
    cumulative_share: float
    in_tail: bool
    tail_share: float | None
    inverse_frequency: float | None
    weight: float
    mass_before: float
    mass_after: float


class SourceJson(TypedDict):
    """A source under one combination of settings."""

    name: str
    documents: int
    tokens: int
    targets: int
    histogram: list[int]
    tail_targets: int
    mass_before: float
    mass_after: float
    mean_weight: float | None


class BudgetJson(TypedDict):
    """The mean extra weight over the tail's targets: as asked for, and as reached."""

    asked: float | None
    spent: float


class IntervalsJson(TypedDict):
    """The intervals of an estimate, each with its two ends; None where the sample cannot tell.

    `reason` says why there are none at all.
    """

    level: float
    windows: list[float] | None
    tokens: list[float] | None
    mean_weight: list[float] | None
    shares: list[list[float] | None]
    reason: str | None


class EstimatedJson(TypedDict, total=False):
    """The additional keys of a combination of settings whose figures are estimates."""

    intervals: IntervalsJson


class RowJson(EstimatedJson):
    """One combination of settings."""

    settings: Settings
    windows: int
    tokens: int
    padding: int
    segments: int
    documents: int
    cut_documents: int
    targets: int
    windows_by_largest: list[int]
    tail_windows: int
    largest_context: int
    largest_weight: float
    mean_weight: float | None
    effective_sample_size: float | None
    budget: BudgetJson
    tail_empty: bool
    buckets: list[BucketJson]
    sources: list[SourceJson]
    command: str


class StoredSourceJson(TypedDict):
    """A source as it is stored, before anything is selected from it."""

    name: str
    documents: int
    tokens: int


class SampleJson(TypedDict):
    """What an estimate is from; `asked`, `read` and `tokenized` are fractions of the text."""

    fraction: float
    documents: int
    tokens: int
    asked: float
    read: float
    tokenized: float


class SampledJson(TypedDict, total=False):
    """The additional keys of a subject that was sampled."""

    sample: SampleJson


class SubjectJson(SampledJson):
    """A token store, shard set or sample, and its combinations of settings."""

    path: str
    kind: str
    tokenizer: Mapping[str, Any]
    tokenize: Mapping[str, Any]
    documents: int
    tokens: int
    sources: list[StoredSourceJson]
    longest_document: int
    rows: list[RowJson]


class InspectionJson(TypedDict):
    """All that was inspected."""

    format: str
    format_version: int
    versions: dict[str, str]
    subjects: list[SubjectJson]
