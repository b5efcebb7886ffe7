"""The job `pack`: a token store in, a shard set out."""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import xxhash

from ..schemas.errors import ExactcptError, IncompleteError, UsageError
from ..schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE, Manifest, dump, parse
from ..schemas.shard import SPLITS, TRAIN, VALIDATION
from .buckets import bucket_count
from .config import PackConfig
from .exact import Exact
from .job import JOB, State, begin
from .pack_units import GROUPS, number_shards
from .plan import PartRef, PlanSettings
from .probe import SHARD_BYTES_PER_TOKEN, require_space
from .progress import Console, Count, Progress
from .runner import RunSettings, run
from .selection import Epochs, Mixing, Share
from .selection_units import PackTask
from .storage import Folder

__all__ = [
    "OWNED",
    "pack",
    "pack_settings",
    "pack_task",
    "read_store",
    "settings_of",
    "store_parts",
    "warnings_of",
]

OWNED = ("tokenizer.json", "train", "validation", "documents")
HEAVY = 10.0


def read_store(store: Folder) -> tuple[Manifest, str]:
    """The manifest of a token store and its digest.

    Raises:
        IncompleteError: there is none.
        FormatError: it is no manifest of a token store.
    """
    if not store.exists(MANIFEST):
        begun = store.exists(f"{JOB}/state.json")
        raise IncompleteError(
            "this token store is not finished" if begun else "this is no token store",
            where=store.url,
            expected="a folder that `exactcpt tokenize` has completed",
            fix="run `exactcpt tokenize` (or `prepare`) again; it goes on where it stopped",
        )
    data = store.read(MANIFEST)
    manifest = parse(data, store.url_of(MANIFEST), TOKEN_STORE)
    return manifest, xxhash.xxh3_128_hexdigest(data)


def pack_settings(config: PackConfig, sources: Sequence[str]) -> dict[str, Any]:
    """Every setting of packing that changes content, defaults filled in.

    Raises:
        UsageError: a source that is mixed does not exist.
    """
    unknown = [name for name in config.mixing if name not in sources]
    if unknown:
        raise UsageError(
            f"there is no source {unknown[0]!r} to mix",
            expected=f"one of {', '.join(sources)}",
        )
    plain = ("window", "packing", "alpha", "gamma", "epsilon", "max_weight", "validation_fraction")
    counts = ("token_budget", "group_tokens", "shard_bytes", "dedup", "seed")
    return {
        **{name: getattr(config, name) for name in plain},
        "tau": config.tail_start,
        **{name: getattr(config, name) for name in counts},
        "mixing": {name: dict(config.mixing.get(name, {"epochs": 1.0})) for name in sources},
    }


def settings_of(config: PackConfig, store_manifest: Manifest) -> dict[str, Any]:
    """The settings of a shard set, those of its token store included."""
    names = [source["name"] for source in store_manifest["sources"]]
    return {**pack_settings(config, names), "tokenize": store_manifest["settings"]}


def pack(
    config: PackConfig,
    store: Folder,
    out: Folder,
    settings: RunSettings,
    console: Console,
    *,
    overwrite: bool,
) -> tuple[Manifest, bool]:
    """Runs the job.

    Args:
        config: what to pack, and how.
        store: a finished token store.
        out: where the shard set is written; must be locked.
        settings: where the graph runs.
        console: for messages and progress.
        overwrite: whether a shard set of other settings is replaced.

    Returns:
        The shard set's manifest, and whether an equal job had finished before.
    """
    manifest, digest = read_store(store)
    state = State(settings=settings_of(config, manifest), inputs={"token store": digest})
    if begin(out, state, OWNED, overwrite=overwrite):
        return parse(out.read(MANIFEST), out.url_of(MANIFEST), SHARD_SET), True
    parts = store_parts(manifest, store)
    task = pack_task(config, manifest, parts, store, out)
    require_space({out: int(_packed_tokens(task) * SHARD_BYTES_PER_TOKEN)})
    _run(task, settings, console)
    out.write("tokenizer.json", store.read("tokenizer.json"))
    return _finish(task, state, manifest, digest, out), False


def store_parts(
    manifest: Manifest, store: Folder, kinds: Sequence[str] = ("file", "index")
) -> tuple[PartRef, ...]:
    """The parts of a store, in its order.

    Args:
        manifest: of the store.
        store: where it is.
        kinds: the files of a part that have to be there in their full size.

    Raises:
        ExactcptError: a file has another size, or there are no documents.
    """
    parts: list[PartRef] = []
    first = 0
    for part in manifest["parts"]:
        for kind in kinds:
            found, expected = store.size(part[kind]["path"]), part[kind]["bytes"]
            if found != expected:
                raise ExactcptError(
                    "a part of the token store is damaged",
                    where=store.url_of(part[kind]["path"]),
                    expected=f"{expected:,} bytes, not {found or 0:,}",
                    fix="write the store again with `exactcpt tokenize --overwrite`",
                )
        parts.append(
            PartRef(
                part=part["part"],
                source=part["source"],
                first_document=first,
                documents=part["documents"],
                tokens=part["tokens"],
            )
        )
        first += part["documents"]
    if not parts:
        raise ExactcptError(
            "the token store has no documents",
            where=store.url,
            fix="look at what was rejected and dropped: exactcpt tokenize prints it",
        )
    return tuple(parts)


def pack_task(
    config: PackConfig, manifest: Manifest, parts: tuple[PartRef, ...], store: Folder, out: Folder
) -> PackTask:
    """What the units of a job have in common."""
    names = [source["name"] for source in manifest["sources"]]
    return PackTask(
        store=store.url,
        out=out.url,
        parts=parts,
        settings=PlanSettings(
            window=config.window,
            packing=config.packing,
            validation_fraction=Fraction(str(config.validation_fraction)),
            seed=config.seed,
        ),
        exact=Exact(
            tau=config.tail_start,
            alpha=config.alpha,
            gamma=config.gamma,
            epsilon=config.epsilon,
            max_weight=config.max_weight,
        ),
        mixing={
            name: _mixing(asked) for name, asked in pack_settings(config, names)["mixing"].items()
        },
        token_budget=config.token_budget,
        dedup=config.dedup == "exact",
        group_tokens=config.group_tokens,
        shard_bytes=config.shard_bytes,
        pad_id=manifest["tokenizer"]["pad_id"],
    )


def _mixing(asked: Mapping[str, float]) -> Mixing:
    ((kind, value),) = asked.items()
    exact = Fraction(str(value))
    return Epochs(exact) if kind == "epochs" else Share(exact)


def _packed_tokens(task: PackTask) -> int:
    """About how many tokens the shards will have."""
    if task.token_budget is not None:
        return task.token_budget
    epochs = {name: m.epochs for name, m in task.mixing.items() if isinstance(m, Epochs)}
    return int(sum(part.tokens * epochs.get(part.source, 1) for part in task.parts))


def _run(task: PackTask, settings: RunSettings, console: Console) -> None:
    from .graph import pack_graph

    out = Folder(task.out)
    with Progress(console, "pack", _Look(out, task)) as progress:
        run(lambda p, lanes: pack_graph(p, task, lanes), settings, out, progress.poll)


class _Look:
    """Counts shards, once all groups are planned and it is known how many there will be."""

    def __init__(self, out: Folder, task: PackTask) -> None:
        self._out, self._task = out, task
        self._total: int | None = None
        self._windows: dict[str, int] = {}

    def __call__(self) -> Count:
        if self._total is None and self._out.exists(GROUPS):
            planned = _summaries(self._out, "plans")
            if len(planned) == json.loads(self._out.read(GROUPS))["groups"]:
                self._total = len(number_shards(planned, self._task, None))
        for split in SPLITS:
            for name in self._out.names(f"{JOB}/{split}"):
                if name not in self._windows and "/.shard" not in name:
                    self._windows[name] = json.loads(self._out.read(name))["windows"]
        tokens = sum(self._windows.values()) * self._task.settings.window
        return Count("shards", len(self._windows), self._total, tokens)


def _summaries(out: Folder, kind: str) -> list[dict[str, Any]]:
    names = [name for name in out.names(f"{JOB}/{kind}") if name.endswith(".json")]
    return [json.loads(out.read(name)) for name in names]


def _finish(
    task: PackTask,
    state: State,
    store_manifest: Manifest,
    digest: str,
    out: Folder,
) -> Manifest:
    plans = _summaries(out, "plans")
    weights = json.loads(out.read(f"{JOB}/weights.json"))
    copies = json.loads(out.read(GROUPS))["copies"]
    splits = {split: _split(plans, split, task.settings.window) for split in SPLITS}
    documents = _summaries(out, "documents")
    sources = [
        _source(source, copies[source["name"]], plans, task.settings.window)
        for source in store_manifest["sources"]
    ]
    manifest: Manifest = {
        "format": SHARD_SET,
        "format_version": 1,
        "versions": {**store_manifest["versions"], "exactcpt": version("exactcpt")},
        "settings": dict(state.settings),
        "tokenizer": store_manifest["tokenizer"],
        "inputs": store_manifest["inputs"],
        "sources": sources,
        "splits": splits,
        "weights": {"alpha": task.exact.alpha, **weights},
        "shards": {split: _summaries(out, split) for split in SPLITS},
        "documents": documents,
        "store": {"manifest_xxh3_128": digest},
        "warnings": store_manifest["warnings"],
    }
    manifest["warnings"] = [*store_manifest["warnings"], *warnings_of(manifest)]
    out.write(MANIFEST, dump(manifest))
    for name in out.names(JOB):
        if name not in (f"{JOB}/state.json", f"{JOB}/lock"):
            out.remove(name)
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


def _add(histograms: Any, buckets: int) -> list[int]:
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


def warnings_of(manifest: Manifest) -> list[str]:
    """What a person should know of a shard set, beside the warnings of its token store."""
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
    """A budget of which a part is given to nobody."""
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
