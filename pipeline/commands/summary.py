"""What a job prints before and after its work: tables for a person, a dictionary for a program."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...schemas.manifest import Manifest
from ...schemas.sizes import plural
from ..job.folder import Finished
from ..terminal import bar, plain_table, size
from ..tokens.estimate import Estimate

__all__ = ["estimate_table", "histogram_table", "shard_tables", "store_tables", "summary_of"]


def summary_of(finished: Finished, *, out: str, seconds: float) -> dict[str, Any]:
    """The summary that `--json` prints.

    Args:
        finished: the output.
        out: its path or URL.
        seconds: since the command began.
    """
    manifest = finished.manifest
    keys = ("format", "sources", "splits", "weights", "warnings", "tokenizer")
    return {
        "status": "finished before" if finished.before else "done",
        "out": out,
        "seconds": round(seconds, 3),
        **{key: manifest[key] for key in keys if key in manifest},
        **(
            {"shards": {s: len(f) for s, f in manifest["shards"].items()}}
            if "shards" in manifest
            else {}
        ),
    }


def store_tables(manifest: Manifest) -> list[Any]:
    """The tables of a token store: what was read of each source, and what was not used."""
    table = plain_table(
        "source", "documents", "tokens", "text", "tokens/byte", "rejected", "dropped"
    )
    for source in manifest["sources"]:
        read = source["read"]
        ratio = read["tokens"] / read["text_bytes"] if read["text_bytes"] else 0
        table.add_row(
            source["name"],
            f"{read['documents']:,}",
            f"{read['tokens']:,}",
            size(read["text_bytes"]),
            f"{ratio:.3f}",
            f"{sum(read['rejected'].values()):,}",
            f"{sum(read['dropped'].values()):,}",
        )
    return [table, *_unused_records(manifest), *_what_tokens_lack(manifest)]


def _unused_records(manifest: Manifest) -> list[Any]:
    """A table of the records that are not in the store, by reason; none if all of them are."""
    table = plain_table("source", "records not used", "count")
    for source in manifest["sources"]:
        for kind in ("rejected", "dropped"):
            for reason, count in source["read"][kind].items():
                table.add_row(source["name"], f"{kind}: {reason}", f"{count:,}")
    table.columns[1].justify = "left"
    return [table] if table.row_count else []


def _what_tokens_lack(manifest: Manifest) -> list[Any]:
    """A table of what the tokens do not say of the text; none if they say all of it."""
    table = plain_table("source", "in the tokens", "count")
    for source in manifest["sources"]:
        found = source["read"].get("encoding", {})
        sampled = f"of {found.get('sampled_characters', 0):,} sampled characters"
        for key, words in (
            ("unknown_tokens", "unknown tokens"),
            ("inner_ends", "end tokens inside documents"),
            ("lost_characters", f"lost, {sampled}"),
        ):
            if found.get(key):
                table.add_row(source["name"], words, f"{found[key]:,}")
    table.columns[1].justify = "left"
    return [table] if table.row_count else []


def shard_tables(manifest: Manifest) -> list[Any]:
    """The tables of a shard set: sources, splits, and the histogram with its weights."""
    return [_sources(manifest), _splits(manifest), histogram_table(manifest["weights"])]


def _sources(manifest: Manifest) -> Any:
    table = plain_table(
        "source", "documents", "tokens", "times seen", "training\ntokens", "share", "dropped"
    )
    total = max(1, manifest["splits"]["train"]["tokens"])
    for source in manifest["sources"]:
        train = source["splits"]["train"]["tokens"]
        table.add_row(
            source["name"],
            f"{source['read']['documents']:,}",
            f"{source['read']['tokens']:,}",
            f"{source['copies']:.3g}",
            f"{train:,}",
            f"{train / total:.1%}",
            _reasons(source["dropped"]),
        )
    return table


def _splits(manifest: Manifest) -> Any:
    table = plain_table(
        "split", "shards", "windows", "tokens", "padding", "documents split", "targets"
    )
    window = manifest["settings"]["window"]
    for name, split in manifest["splits"].items():
        table.add_row(
            name,
            f"{len(manifest['shards'][name]):,}",
            f"{split['windows']:,}",
            f"{split['tokens']:,}",
            f"{split['padding'] / max(1, split['windows'] * window):.2%}",
            f"{split['cut_documents']:,}",
            f"{split['targets']:,}",
        )
    return table


def histogram_table(weights: Mapping[str, Any]) -> Any:
    """The histogram of effective contexts, with the weight of each bucket; `*` marks the tail.

    Args:
        weights: the `weights` of a shard set's manifest.
    """
    table = plain_table(
        "effective\ncontext", "targets", "share", "", "weight", "share of\nloss weight"
    )
    rows = weights["table"]
    targets = sum(row["targets"] for row in rows)
    mass = sum(row["targets"] * row["weight"] for row in rows)
    largest = max((row["targets"] for row in rows), default=0)
    for row in rows:
        table.add_row(
            f"{row['low']}-{row['high']}{' *' if row['in_tail'] else '  '}",
            f"{row['targets']:,}",
            f"{row['targets'] / max(1, targets):.2%}",
            bar(row["targets"], largest),
            f"{row['weight']:.4f}",
            f"{row['targets'] * row['weight'] / mass if mass else 0:.2%}",
            style="cyan" if row["in_tail"] else None,
        )
    table.columns[3].justify = "left"
    budget, alpha = weights["budget"], weights["alpha"]
    asked = "given weights" if alpha is None else f"alpha {alpha:g}"
    table.caption = f"* tail; mean extra weight of its targets {budget:.4f} ({asked})"
    return table


def estimate_table(found: Estimate) -> Any:
    """The estimated tokens of each source, and the size of the output."""
    table = plain_table("source", "tokens (estimated)")
    for name, tokens in found.tokens.items():
        table.add_row(name, "unknown until it is read" if tokens is None else f"{tokens:,}")
    caption = [f"token store {size(found.store_bytes)}"]
    if found.windows:
        caption += [f"shards {size(found.shard_bytes)}", plural(found.windows, "window")]
    table.caption = ", ".join(caption)
    return table


def _reasons(counts: Mapping[str, int]) -> str:
    parts: Sequence[str] = [f"{count:,} {reason}" for reason, count in counts.items() if count]
    return ", ".join(parts) or "-"
