"""The manifest of a shard set whose windows somebody else has packed."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ...schemas.errors import ExactcptError
from ...schemas.manifest import (
    FORMAT_VERSION,
    MANIFEST,
    SHARD_SET,
    SUPERVISED_VERSION,
    Manifest,
    dump,
)
from ...schemas.shard import SPLITS
from ...schemas.sizes import plural
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB, State, forget_progress
from ..pack.manifest import read_summaries, warnings_of
from ..tokens.manifest import equal_inputs, inputs_of
from .counting import Count
from .plan import WeighPlan

__all__ = ["counts_by_source", "manifest_of", "refuse_lost_boundaries", "write_manifest"]

MANY_REPEATED = 0.01
"""Share of rows that may end with a run of one token without a warning."""
MUCH_PADDING = 0.1
"""Share of padding above which it pays to pack documents."""


def write_manifest(plan: WeighPlan, state: State, out: Folder) -> Manifest:
    """Writes the manifest, last of all files, and clears the job's folder; returns the manifest."""
    weights = read_json(out, f"{JOB}/weights.json", ("budget", "table"))
    inputs = inputs_of(plan.tokens, out)
    manifest: Manifest = {
        **manifest_of(plan, counts_by_source(plan, read_summaries(out, "counts"))),
        "settings": dict(state.settings),
        "inputs": inputs,
        "weights": {"alpha": plan.packing.alpha, **weights},
        "shards": {split: read_summaries(out, split) for split in SPLITS},
        "documents": read_summaries(out, "documents"),
        "store": None,
    }
    manifest["warnings"] += [*equal_inputs(plan.tokens, inputs), *warnings_of(manifest)]
    out.write(MANIFEST, dump(manifest))
    forget_progress(out)
    return manifest


def counts_by_source(plan: WeighPlan, summaries: Sequence[Mapping[str, Any]]) -> dict[str, Count]:
    """The counts of all sources, from those of the splits."""
    found = {name: Count.empty(plan.packing.window) for name in plan.tokens.files}
    for summary in summaries:
        found[summary["source"]].add(Count.of_json(summary["count"]))
    return found


def manifest_of(plan: WeighPlan, counts: Mapping[str, Count]) -> Manifest:
    """What the counts alone say: tokenizer, sources, splits, and warnings about the rows."""
    by_split = {split: Count.empty(plan.packing.window) for split in SPLITS}
    for name, count in counts.items():
        by_split[SPLITS[int(name in plan.validation)]].add(count)
    return {
        "format": SHARD_SET,
        "format_version": SUPERVISED_VERSION if plan.has_spans else FORMAT_VERSION,
        "versions": {name: version(name) for name in ("exactcpt", "pyarrow")},
        "settings": plan.settings,
        "tokenizer": plan.tokens.tokenizer_manifest("tokenizers", None),
        "sources": [
            _source(name, count, int(name in plan.validation)) for name, count in counts.items()
        ],
        "splits": {split: _split(count, plan.packing.window) for split, count in by_split.items()},
        "warnings": [
            *plan.tokens.warnings,
            *(w for name, count in counts.items() for w in _about_ends(plan, name, count)),
            *(w for name, count in counts.items() for w in _about_padding(plan, name, count)),
        ],
    }


def _source(name: str, count: Count, validates: int) -> dict[str, Any]:
    empty = Count(histogram=count.histogram * 0, windows_by_largest=count.windows_by_largest * 0)
    return {
        "name": name,
        "read": {
            "documents": count.segments,
            "tokens": count.tokens,
            "text_bytes": 0,
            "rejected": {},
            "dropped": {},
            "encoding": {
                "unknown_tokens": count.unknown_tokens,
                "inner_ends": count.inner_ends,
                "documents_with_inner_ends": count.segments_with_inner_ends,
                "sampled_characters": 0,
                "lost_characters": 0,
            },
        },
        "copies": 1.0,
        "dropped": {},
        "splits": {
            split: _share(count if number == validates else empty)
            for number, split in enumerate(SPLITS)
        },
    }


def _share(count: Count) -> dict[str, Any]:
    return {
        "documents": count.segments,
        "tokens": count.tokens,
        "targets": int(count.histogram.sum()),
        "histogram": count.histogram.tolist(),
    }


def _split(count: Count, window: int) -> dict[str, Any]:
    return {
        "windows": count.windows,
        "tokens": count.tokens,
        "padding": count.windows * window - count.tokens,
        "segments": count.segments,
        "cut_documents": 0,
        "targets": int(count.histogram.sum()),
        "histogram": count.histogram.tolist(),
    }


def _about_ends(plan: WeighPlan, name: str, count: Count) -> list[str]:
    """A warning about segments that seem to be several documents."""
    if not count.inner_ends:
        return []
    inside = f"{count.segments_with_inner_ends:,} of {plural(count.segments, 'segment')}"
    kind, token = plan.boundaries[name], plan.tokens.eos_token
    return [
        f"source {name!r}: {token!r} is inside {inside}: if it ends documents there, {kind} does "
        "not tell them apart, and they see each other; --boundaries end_token would"
    ]


def _about_padding(plan: WeighPlan, name: str, count: Count) -> list[str]:
    """Warnings about padding that is not where it belongs, or of which there is much."""
    found: list[str] = []
    if count.inner_padding:
        found.append(
            f"source {name!r}: {count.inner_padding:,} tokens of padding stand before or between "
            "the documents of its rows, and are trained on as text; padding belongs to a row's end"
        )
    if count.repeated_ends > MANY_REPEATED * count.windows:
        found.append(
            f"source {name!r}: {count.repeated_ends:,} of {plural(count.windows, 'row')} end with "
            "a run of one token, and are trained on it; if it is padding, name it with --pad-id"
        )
    padding = 1 - count.tokens / max(1, count.windows * plan.packing.window)
    if count.segments == count.windows and padding > MUCH_PADDING:
        found.append(
            f"source {name!r}: every row is one document, and {padding:.0%} of the windows is "
            "padding; `exactcpt prepare --source NAME=PATTERN,tokens=FIELD` packs documents"
        )
    return found


def refuse_lost_boundaries(plan: WeighPlan, counts: Mapping[str, Count]) -> None:
    """Refuses a source of which every row is one segment, if the tokens say otherwise.

    Raises:
        ExactcptError: its rows have end tokens inside, or are cut by end tokens and have none.
    """
    for name, count in counts.items():
        if not count.windows or count.segments != count.windows:
            continue
        kind, token = plan.boundaries[name], plan.tokens.eos_token
        if count.inner_ends:
            raise ExactcptError(
                f"source {name!r}: by {kind}, each of {plural(count.windows, 'row')} is one "
                f"document, but {token!r} is inside {count.segments_with_inner_ends:,} of them",
                expected="boundaries that begin again with every document",
                fix="correct them where the rows are packed, or cut the rows at their end tokens: "
                "--boundaries end_token",
            )
        if kind == "end_token":
            raise ExactcptError(
                f"source {name!r}: none of {plural(count.windows, 'row')} has {token!r} between "
                "two documents",
                expected="end tokens, at which packed rows are cut",
                fix="name the token that ends documents with --eos-token; rows that are one "
                "document each need a column seq_lengths that says so",
            )
