"""The manifest of a shard set, from the summaries that the work units have written."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from importlib.metadata import version
from typing import Any

from ...schemas.manifest import MANIFEST, SHARD_SET, TOKENIZER, Manifest, dump
from ...schemas.shard import SPLITS, TRAIN, VALIDATION
from ...schemas.sizes import plural
from ..core.buckets import bucket_count
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB, State, forget_progress
from .task import PackTask
from .units import GROUPS

__all__ = ["OWNED", "read_summaries", "warnings_of", "write_manifest"]

OWNED = (TOKENIZER, *SPLITS, "documents")
"""What a job writes into its folder besides the manifest."""
HEAVY = 10.0


def read_summaries(out: Folder, kind: str) -> list[dict[str, Any]]:
    """The summaries of one kind: plans, the shards of a split, or documents."""
    names = [name for name in out.names(f"{JOB}/{kind}") if name.endswith(".json")]
    return out.for_all(names, lambda name: read_json(out, name))


def write_manifest(
    task: PackTask,
    state: State,
    store_manifest: Manifest,
    digest: str,
    out: Folder,
) -> Manifest:
    """Writes the manifest, last of all files, and clears the job's folder; returns the manifest."""
    plans = read_summaries(out, "plans")
    weights = read_json(out, f"{JOB}/weights.json", ("budget", "table"))
    copies = read_json(out, GROUPS, ("copies",))["copies"]
    splits = {split: _split(plans, split, task.settings.window) for split in SPLITS}
    documents = read_summaries(out, "documents")
    sources = [
        _source(source, copies[source["name"]], plans, task.settings.window)
        for source in store_manifest["sources"]
    ]
    manifest: Manifest = {
        "format": SHARD_SET,
        "format_version": store_manifest["format_version"],
        "versions": {**store_manifest["versions"], "exactcpt": version("exactcpt")},
        "settings": dict(state.settings),
        "tokenizer": store_manifest["tokenizer"],
        "inputs": store_manifest["inputs"],
        "sources": sources,
        "splits": splits,
        "weights": {"alpha": task.exact.alpha, **weights},
        "shards": {split: read_summaries(out, split) for split in SPLITS},
        "documents": documents,
        "store": {"manifest_xxh3_128": digest},
        "warnings": store_manifest["warnings"],
    }
    manifest["warnings"] = [
        *store_manifest["warnings"],
        *_of_answers(plans),
        *warnings_of(manifest),
    ]
    out.write(MANIFEST, dump(manifest))
    forget_progress(out)
    return manifest


def _split(plans: Sequence[Mapping[str, Any]], split: str, window: int) -> dict[str, Any]:
    mine = [plan["splits"][split] for plan in plans]
    shares = [share for plan in mine for share in plan["sources"].values()]
    counts = ("windows", "tokens", "padding", "segments", "cut_documents")
    return {
        **{name: sum(plan[name] for plan in mine) for name in counts},
        "targets": sum(share["targets"] for share in shares),
        "histogram": _add((share["histogram"] for share in shares), bucket_count(window)),
    }


def _add(histograms: Iterable[Sequence[int]], buckets: int) -> list[int]:
    total = [0] * buckets
    for histogram in histograms:
        total = [a + b for a, b in zip(total, histogram, strict=True)]
    return total


def _source(
    source: Mapping[str, Any], copies: float, plans: Sequence[Mapping[str, Any]], window: int
) -> dict[str, Any]:
    name = source["name"]
    buckets = bucket_count(window)

    def share(split: str) -> dict[str, Any]:
        mine = [plan["splits"][split]["sources"].get(name) for plan in plans]
        found = [share for share in mine if share is not None]
        sums = {key: sum(s[key] for s in found) for key in ("documents", "tokens", "targets")}
        return {**sums, "histogram": _add((s["histogram"] for s in found), buckets)}

    dropped = {"duplicate": 0, "mixing": 0}
    for plan in plans:
        for reason, count in plan["dropped"].get(name, {}).items():
            dropped[reason] += count
    return {
        "name": name,
        "read": source["read"],
        "copies": copies,
        "dropped": {reason: count for reason, count in dropped.items() if count},
        "splits": {split: share(split) for split in SPLITS},
    }


def _of_answers(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning about training answers that do not see the beginning of their document."""
    cut, answers = (
        sum(plan["splits"][TRAIN].get(key, 0) for plan in plans) for key in ("cut_off", "answers")
    )
    if not cut:
        return []
    return [
        f"{cut:,} of {plural(answers, 'answer')} do not see the beginning of their prompt: their "
        "document is cut before them; best_fit cuts only documents longer than a window"
    ]


def warnings_of(manifest: Manifest) -> list[str]:
    """Warnings about a shard set, besides those about its token store."""
    found: list[str] = []
    settings, splits = manifest["settings"], manifest["splits"]
    table = manifest["weights"]["table"]
    trained = {s["name"]: s["splits"][TRAIN]["tokens"] for s in manifest["sources"]}
    if not splits[TRAIN]["windows"]:
        found.append("there are no training windows: every document validates or was dropped")
    elif not any(row["in_tail"] for row in table):
        largest = max((row["high"] for row in table if row["targets"]), default=0)
        found.append(
            f"the tail is empty: no target has an effective context of {settings['tau']} (tau) or "
            f"more, the longest are in the bucket that ends at {largest}"
            + ("" if "table" in settings else "; all weights are 1")
        )
    found += [
        f"source {name!r} has a share of the budget, but no training documents"
        for name, asked in settings["mixing"].items()
        if asked.get("share") and not trained.get(name)
    ]
    found += _unspent(settings, trained)
    heavy = [row for row in table if row["weight"] > HEAVY]
    if heavy:
        found.append(
            f"bucket {heavy[0]['low']}-{heavy[0]['high']} has weight {heavy[0]['weight']:.1f}: few "
            "targets will dominate; lower alpha or gamma, or set max_weight"
        )
    if settings["validation_fraction"] and not splits[VALIDATION]["windows"]:
        found.append("the validation set is empty: too few documents for its fraction")
    return found


def _unspent(settings: Mapping[str, Any], trained: Mapping[str, int]) -> list[str]:
    """A warning where no source takes what the shares leave of the token budget."""
    budget, mixing = settings["token_budget"], settings["mixing"]
    shares = {name: asked["share"] for name, asked in mixing.items() if "share" in asked}
    total = sum(Fraction(str(share)) for share in shares.values())
    others = any(tokens for name, tokens in trained.items() if name not in shares)
    if budget is None or others or total >= 1:
        return []
    return [
        f"the shares of the token budget add up to {float(total):g}, and no other source takes the "
        f"rest: {sum(trained.values()):,} tokens are trained on, of {budget:,}"
    ]
