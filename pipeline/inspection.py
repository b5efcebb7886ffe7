"""The inspection of a token store or shard set: what packing and weighting come to.

A token store answers for any settings, from its index. A shard set has been packed: it answers for
any weights, from its manifest and the segment lengths of its windows.
"""

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..schemas.errors import FormatError
from ..schemas.manifest import Manifest
from ..schemas.shard import PADDING, TRAIN
from .config import PackConfig
from .exact import Exact
from .occurrences import index_reader, longest_document, training_groups
from .pack_job import pack_settings, pack_task, store_parts
from .reweigh import settings_with, table_for
from .selection_units import PackTask
from .shard_set import SEE_VERIFY, reading
from .storage import Folder
from .whatif import (
    Counter,
    Exposure,
    SourceExposure,
    Weighting,
    weigh_by,
    windows_by_largest_context,
)
from .windows import Segments, read_segments

__all__ = [
    "WEIGHING",
    "Row",
    "Subject",
    "exact_of",
    "inspect_shards",
    "inspect_store",
    "pack_flags",
    "to_json",
]

INSPECTION = "exactcpt inspection"
FORMAT_VERSION = 1
WEIGHING = ("tau", "alpha", "gamma", "epsilon", "max_weight")
"""The settings that change weights alone."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """The answer for one combination of settings.

    Attributes:
        settings: of packing, as in the manifest of a shard set.
        exposure: what the training windows have.
        weighting: what the weights do to it.
        command: makes a shard set that is so.
        intervals: of an estimate, as in the JSON; None where figures are exact.
    """

    settings: Settings
    exposure: Exposure
    weighting: Weighting
    command: str
    intervals: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What was inspected.

    Attributes:
        path: as it was given.
        kind: "token store", "shard set" or "sample".
        manifest: its manifest; of a sample, what a token store's would say.
        longest_document: in tokens.
        rows: one a combination of settings.
        sample: what was sampled, as in the JSON; None where everything was counted.
    """

    path: str
    kind: str
    manifest: Manifest
    longest_document: int
    rows: tuple[Row, ...]
    sample: Mapping[str, Any] | None = None


def inspect_store(
    store: Folder, path: str, manifest: Manifest, configs: Sequence[PackConfig]
) -> Subject:
    """What packing a token store with each configuration would come to.

    Args:
        store: the token store.
        path: how commands call it.
        manifest: its manifest.
        configs: alike but for window, packing, and the parameters of the weights.

    Raises:
        UsageError: a source that is mixed does not exist.
        ExactcptError: an index is missing or damaged.
    """
    names = [source["name"] for source in manifest["sources"]]
    settings = [pack_settings(config, names) for config in configs]
    parts = store_parts(manifest, store, kinds=("index",))
    task = pack_task(configs[0], manifest, parts, store, store)
    packings = list(dict.fromkeys((config.window, config.packing) for config in configs))
    exposures, longest = _expose(task, packings, store, names)
    return Subject(
        path=path,
        kind="token store",
        manifest=manifest,
        longest_document=longest,
        rows=tuple(
            _row(one, exposures[one["window"], one["packing"]], pack_command(path, one))
            for one in settings
        ),
    )


def _expose(
    task: PackTask,
    packings: Sequence[tuple[int, Any]],
    store: Folder,
    names: Sequence[str],
) -> tuple[dict[tuple[int, Any], Exposure], int]:
    """The exposure of each window and packing, and tokens of the longest document."""
    with index_reader(store, task) as read:
        longest = longest_document(task, read)
        counters = {
            (window, packing): Counter(window, packing, task.sources, longest)
            for window, packing in packings
        }
        for group in training_groups(task, read):
            for counter in counters.values():
                counter.add(group)
    return {key: _with(counter.exposure(), names) for key, counter in counters.items()}, longest


def _with(exposure: Exposure, names: Sequence[str]) -> Exposure:
    """The same, with sources that have no stored document, in the order of the manifest."""
    none = SourceExposure(documents=0, tokens=0, histogram=np.zeros_like(exposure.histogram))
    return replace(exposure, sources={name: exposure.sources.get(name, none) for name in names})


def inspect_shards(
    shards: Folder,
    path: str,
    manifest: Manifest,
    weighings: Sequence[Mapping[str, Any]],
    store: str | None,
) -> Subject:
    """What a shard set has, with each weighing.

    Args:
        shards: the shard set.
        path: how commands call it.
        manifest: its manifest.
        weighings: settings of `WEIGHING` that replace the set's own.
        store: path of its token store, if it is known.

    Raises:
        ExactcptError: a file is missing or damaged.
    """
    own = {name: value for name, value in manifest["settings"].items() if name != "tokenize"}
    longest = _longest_row(shards, manifest)
    exposure = _packed_exposure(shards, manifest, longest)

    def row(weighing: Mapping[str, Any]) -> Row:
        settings = settings_with(own, weighing)
        if "table" in settings:
            command = shlex.join(["exactcpt", "reweigh", path, "--table", "FILE", "--out", "OUT"])
        elif settings == own:
            command = pack_command(store or "STORE", settings)
        else:
            command = reweigh_command(path, settings)
        return _row(settings, exposure, command)

    return Subject(
        path=path,
        kind="shard set",
        manifest=manifest,
        longest_document=longest,
        rows=tuple(row(weighing) for weighing in weighings),
    )


def _packed_exposure(shards: Folder, manifest: Manifest, longest_document: int) -> Exposure:
    window, split = manifest["settings"]["window"], manifest["splits"][TRAIN]
    longest = np.zeros(min(window, longest_document) + 1, np.int64)
    segments = 0
    for some in read_segments(shards, manifest, TRAIN):
        segments += _add_longest_segments(some, longest, shards.url)
    found = int(longest.sum()), segments
    if found != (split["windows"], split["segments"]):
        raise FormatError(
            f"the shards have {found[0]:,} windows with {found[1]:,} segments",
            where=shards.url,
            expected=f"{split['windows']:,} with {split['segments']:,}, as the manifest says",
            fix=SEE_VERIFY,
        )
    used = np.flatnonzero(longest)
    return Exposure(
        window=window,
        windows=split["windows"],
        segments=split["segments"],
        cut_documents=split["cut_documents"],
        largest_context=int(used[-1]) - 1 if len(used) else 0,
        windows_by_largest=windows_by_largest_context(longest, window),
        sources={
            source["name"]: SourceExposure(
                documents=source["splits"][TRAIN]["documents"],
                tokens=source["splits"][TRAIN]["tokens"],
                histogram=np.array(source["splits"][TRAIN]["histogram"], np.int64),
            )
            for source in manifest["sources"]
        },
    )


def _add_longest_segments(found: Segments, windows: NDArray[np.int64], where: str) -> int:
    """Counts windows by the length of their longest segment; returns how many segments they have.

    Args:
        found: segments of whole windows.
        windows: where they are counted, by lengths up to that of the longest document.
        where: what errors call the shard set.
    """
    is_padding = found.document == PADDING
    lengths = np.where(is_padding, 0, found.length)
    if (longest := int(lengths.max(initial=0))) >= len(windows):
        raise FormatError(
            f"the shards have a segment of {longest:,} tokens",
            where=where,
            expected=f"at most {len(windows) - 1:,}, as the longest document has",
            fix=SEE_VERIFY,
        )
    first = np.flatnonzero(np.diff(found.window, prepend=-1))
    np.add.at(windows, np.maximum.reduceat(lengths, first), 1)
    return int((~is_padding).sum())


def _longest_row(shards: Folder, manifest: Manifest) -> int:
    """Tokens of the longest document of the documents table."""
    longest = 0
    for file in manifest["documents"]:
        with reading(shards, file), shards.open_ranges(file["path"]) as source:
            table = pq.ParquetFile(source).read(columns=["n_tokens"])
            longest = max(longest, int(np.max(table["n_tokens"].to_numpy(), initial=0)))
    return longest


def _row(settings: Settings, exposure: Exposure, command: str) -> Row:
    return Row(
        settings=settings,
        exposure=exposure,
        weighting=weigh_by(
            table_for(exposure.histogram.tolist(), settings), exposure, settings["tau"]
        ),
        command=command,
    )


def exact_of(settings: Settings) -> Exact:
    """The parameters of the weights among settings."""
    return Exact(**{name: settings[name] for name in WEIGHING})


def pack_command(store: str, settings: Settings) -> str:
    """The command line that packs a store with these settings; OUT is to be replaced."""
    return shlex.join(["exactcpt", "pack", store, *pack_flags(settings), "--out", "OUT"])


def pack_flags(settings: Settings, *, mixing: bool = True) -> list[str]:
    """The flags that ask for settings of packing; those of mixing only where it is wanted."""
    always = ("window", "packing", "tau", "alpha", "gamma")
    defaults = PackConfig.__dataclass_fields__
    flags: list[str] = []
    for name in (name for name in defaults if name != "mixing"):
        if name in always or settings[name] != defaults[name].default:
            flags += [f"--{name.replace('_', '-')}", _plain(settings[name])]
    for source, asked in settings["mixing"].items() if mixing else ():
        if asked != {"epochs": 1.0}:
            flags += [f"--{kind}={source}={_plain(value)}" for kind, value in asked.items()]
    return flags


def reweigh_command(shards: str, settings: Settings) -> str:
    """The command line that gives a shard set these weights; OUT is to be replaced."""
    weights = {name: settings[name] for name in WEIGHING}
    if weights["max_weight"] is None:
        weights["max_weight"] = math.inf  # what is not named stays as the set has it
    flags = [
        word
        for name, value in weights.items()
        for word in (f"--{name.replace('_', '-')}", _plain(value))
    ]
    return shlex.join(["exactcpt", "reweigh", shards, *flags, "--out", "OUT"])


def _plain(value: Any) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)


def to_json(subjects: Iterable[Subject]) -> dict[str, Any]:
    """What `--json` prints; see inspection.schema.json."""
    return {
        "format": INSPECTION,
        "format_version": FORMAT_VERSION,
        "versions": {"exactcpt": version("exactcpt")},
        "subjects": [_subject(subject) for subject in subjects],
    }


def _subject(subject: Subject) -> dict[str, Any]:
    sources = [
        {
            "name": source["name"],
            "documents": source["read"]["documents"],
            "tokens": source["read"]["tokens"],
        }
        for source in subject.manifest["sources"]
    ]
    settings = subject.manifest["settings"]
    return {
        "path": subject.path,
        "kind": subject.kind,
        "tokenizer": subject.manifest["tokenizer"],
        "tokenize": settings.get("tokenize", settings),
        "documents": sum(source["documents"] for source in sources),
        "tokens": sum(source["tokens"] for source in sources),
        "sources": sources,
        "longest_document": subject.longest_document,
        **({} if subject.sample is None else {"sample": dict(subject.sample)}),
        "rows": [_row_json(row) for row in subject.rows],
    }


def _row_json(row: Row) -> dict[str, Any]:
    exposure, weighting = row.exposure, row.weighting
    return {
        "settings": dict(row.settings),
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
        **({} if row.intervals is None else {"intervals": dict(row.intervals)}),
    }


def _buckets(row: Row) -> list[dict[str, Any]]:
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


def _sources(row: Row) -> list[dict[str, Any]]:
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
