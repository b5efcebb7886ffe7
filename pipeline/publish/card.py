"""The card of a published data set: README.md with a header that the Hugging Face hub reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...schemas.manifest import MANIFEST, TOKENIZER, Manifest
from ...schemas.shard import SPLITS, VALIDATION
from ...schemas.sizes import plural
from ..convert.parquet import columns_of
from .licences import licence_fields
from .loading import configurations, programs
from .markdown import code, one_line, table, text
from .settings import PublishConfig

__all__ = ["CARD", "PICTURE", "card", "sources_of"]

CARD = "README.md"
PICTURE = "charts.svg"
PAPER = "https://arxiv.org/abs/2605.10544"
TAGS = ["exactcpt", "long-context", "continued-pretraining", "sequence-packing", "loss-weights"]
SIZES = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
"""Between them are the categories of size that the hub knows."""
SHARES = (
    "Let q be the share of a bucket in the targets of the tail, and r = (q + epsilon)^(-gamma). "
)
FORMULA = (
    f"{SHARES}Then its weight is 1 + alpha r / R, where R is the mean of r over the targets of the "
    "tail; outside of the tail it is 1."
)
FORMULA_WITH_CEILING = (
    f"{SHARES}Then its weight is 1 + lambda r, but at most max_weight, where lambda is such that "
    "the mean extra weight over the targets of the tail is alpha; outside of the tail it is 1."
)
MOST_INPUTS = 100
MOST_WARNINGS = 100
MOST_SOURCES_IN_TITLE = 4
SETTINGS = (
    "packing", "tau", "alpha", "gamma", "epsilon", "max_weight", "dedup", "validation_fraction",
    "token_budget", "seed",
)  # fmt: skip


def card(manifest: Manifest, config: PublishConfig) -> str:
    """The text of the card.

    Args:
        manifest: of the shard set.
        config: what the publisher says.
    """
    return "\n".join([_header(manifest, config), *_sections(manifest, config)])


def title_of(manifest: Manifest, config: PublishConfig) -> str:
    """The publisher's title, or one that names the sources and the window."""
    if config.title is not None:
        return config.title
    return f"{sources_of(manifest)}: windows of {plural(manifest['settings']['window'], 'token')}"


def sources_of(manifest: Manifest) -> str:
    """The names of the sources, or of the first of many."""
    names = [source["name"] for source in manifest["sources"]]
    if len(names) > MOST_SOURCES_IN_TITLE:
        more = len(names) - MOST_SOURCES_IN_TITLE + 1
        return one_line(f"{', '.join(names[:-more])} and {more:,} more sources")
    return one_line(", ".join(names))


def _header(manifest: Manifest, config: PublishConfig) -> str:
    from huggingface_hub import DatasetCardData

    fields: Any = {
        **licence_fields(config.license),
        "pretty_name": title_of(manifest, config),
        "size_categories": [_size_category(_windows(manifest))],
        "task_categories": ["text-generation"],
        "tags": TAGS,
        "configs": configurations(manifest, config.format),
    }
    return f"---\n{DatasetCardData(**fields).to_yaml()}\n---\n"


def _size_category(rows: int) -> str:
    numbers = [int(float(size[:-1]) * 1000 ** (1 + "KMBT".index(size[-1]))) for size in SIZES]
    at = sum(rows >= number for number in numbers)
    if at == 0:
        return f"n<{SIZES[0]}"
    return f"n>{SIZES[-1]}" if at == len(SIZES) else f"{SIZES[at - 1]}<n<{SIZES[at]}"


def _windows(manifest: Manifest) -> int:
    return sum(manifest["splits"][split]["windows"] for split in SPLITS)


def _sections(manifest: Manifest, config: PublishConfig) -> Iterator[str]:
    yield f"# {text(title_of(manifest, config))}\n"
    yield from _what(manifest)
    yield from _loading(manifest, config)
    yield from _columns(manifest, config)
    yield from _weights(manifest)
    yield from _provenance(manifest)
    yield from _licence(config)


def _what(manifest: Manifest) -> Iterator[str]:
    window = manifest["settings"]["window"]
    yield (
        f"Text, tokenized and packed into windows of {plural(window, 'token')}, for continued "
        "pretraining on long contexts. Documents that share a window do not see each other, so a "
        "*target*, a token to be predicted, sees only what precedes it in its own document: its "
        "*effective context*. Every target has a loss weight that depends on it, after EXACT "
        f"([{PAPER.removeprefix('https://')}]({PAPER})). Made with exactcpt "
        f"{text(str(manifest['versions']['exactcpt']))}.\n"
    )
    rows = []
    for split in SPLITS:
        found = manifest["splits"][split]
        if found["windows"]:
            padding = found["padding"] / (found["windows"] * window)
            counts = [f"{found[key]:,}" for key in ("windows", "tokens", "targets", "segments")]
            rows.append([split, *counts, f"{padding:.2%}"])
    heads = ["split", ">windows", ">tokens", ">targets", ">segments", ">padding"]
    yield table(heads, rows)


def _loading(manifest: Manifest, config: PublishConfig) -> Iterator[str]:
    yield (
        "## Load it\n\nPut the folder in the place of `PATH`, or the name of the repository on the "
        "hub (for DuckDB and Polars, `hf://datasets/NAME`).\n"
        if config.format == "parquet"
        else "## Load it\n\nPut the folder in the place of `PATH`; for the configuration "
        "`windows`, the name of the repository on the hub will do.\n"
    )
    for program in programs(manifest, config.format).values():
        yield f"```python\n{program}```\n"
    if config.format == "arrow":
        yield (
            "The folder is a shard set of exactcpt, whole: `exactcpt verify PATH` works out again "
            "what its manifest claims, `exactcpt show PATH` prints windows as text, and "
            "`exactcpt train --shards PATH` trains from it.\n"
        )


def _columns(manifest: Manifest, config: PublishConfig) -> Iterator[str]:
    columns = columns_of(manifest)
    names = [name for name in columns if config.format == "parquet" or name != "context_bucket"]
    yield "## What the columns mean\n\nOne window per row:\n"
    yield table(["column", "holds"], [[code(name), columns[name]] for name in names])
    yield (
        "Three things most often go wrong where windows are trained on:\n\n"
        "- **The mask.** `seq_lengths` are the boundaries of the attention mask, and positions "
        "begin at 0 in every segment.\n"
        "- **The shift.** `loss_weight` belongs to the token at its own position, like the labels "
        "of Hugging Face models. Shift labels and weights together, once.\n"
        "- **The denominator.** The loss of a step is the sum of weight times cross entropy over "
        "all its targets, divided once by their number.\n"
    )
    yield (
        "The documents are a table of their own, one per row: `doc_index`, `id`, `source`, the "
        "number of tokens, the split, how many copies were packed, and why it was dropped "
        f"otherwise. `{TOKENIZER}` is the tokenizer that the ids are of. `{MANIFEST}` has the "
        "numbers of this page and all settings as JSON, and the checksum of each file of windows "
        "and documents.\n"
    )


def _weights(manifest: Manifest) -> Iterator[str]:
    yield f"## The weights\n\n![Loss weight by effective context, and by source]({PICTURE})\n"
    yield "Before: as if all weights were 1. After: with the weights of this data set.\n"
    rows = manifest["weights"]["table"]
    total = max(1, sum(row["targets"] for row in rows))
    yield table(
        [">bucket", ">effective context", ">targets", ">share", ">weight", "in the tail"],
        [
            [
                str(row["bucket"]),
                f"{row['low']:,} to {row['high']:,}",
                f"{row['targets']:,}",
                f"{row['targets'] / total:.2%}",
                f"{row['weight']:.4f}",
                "yes" if row["in_tail"] else "",
            ]
            for row in rows
        ],
    )
    sentences = [
        "The tail is the buckets of contexts of at least tau tokens that have targets.",
        _how(manifest["settings"]),
        "Averaged over the targets of the tail, the extra weight is "
        f"{manifest['weights']['budget']:.4f}.",
    ]
    if manifest["shards"][VALIDATION]:
        sentences.append("In the validation split, every target has the weight 1.")
    yield " ".join(sentences) + "\n"


def _how(settings: Mapping[str, Any]) -> str:
    """Where the weights of the buckets come from."""
    if "table" in settings:
        return "The weights were given as a table."
    return FORMULA if settings["max_weight"] is None else FORMULA_WITH_CEILING


def _provenance(manifest: Manifest) -> Iterator[str]:
    yield "## Where it comes from\n"
    yield table(
        ["source", ">documents", ">tokens", ">times seen", ">tokens to train on", ">share"],
        _source_rows(manifest),
    )
    yield _inputs(manifest["inputs"])
    settings, tokenizer = manifest["settings"], manifest["tokenizer"]
    yield "The settings, all others in the manifest:\n"
    rows = [[code(name), code(_shown(settings[name]))] for name in SETTINGS]
    end = f"{tokenizer.get('eos_token', 'the token')} ({tokenizer['eos_id']})"
    yield table(
        ["setting", "value"],
        [
            ["`window`", code(str(settings["window"]))],
            *rows,
            *([["weights", "given by a table, not by the formula"]] if "table" in settings else []),
            ["documents end with", code(end)],
            ["sha256 of the tokenizer", code(tokenizer["sha256"])],
        ],
    )
    yield from _warnings(manifest["warnings"])


def _warnings(warnings: Sequence[str]) -> Iterator[str]:
    """What the program warned of, if anything; the first of many."""
    if not warnings:
        return
    yield "The program warned:\n"
    lines = [f"- {text(warning)}\n" for warning in warnings[:MOST_WARNINGS]]
    if len(warnings) > MOST_WARNINGS:
        lines.append(f"- and {len(warnings) - MOST_WARNINGS:,} more: {MANIFEST} has all\n")
    yield "".join(lines)


def _source_rows(manifest: Manifest) -> Iterator[Sequence[str]]:
    total = max(1, manifest["splits"]["train"]["tokens"])
    for source in manifest["sources"]:
        trained = source["splits"]["train"]["tokens"]
        yield [
            code(source["name"]),
            f"{source['read']['documents']:,}",
            f"{source['read']['tokens']:,}",
            f"{source['copies']:.3g}",
            f"{trained:,}",
            f"{trained / total:.1%}",
        ]


def _inputs(inputs: Sequence[dict[str, Any]]) -> str:
    """The files that were read, folded away; the first of them if there are many."""
    rows = [
        [
            code(each["source"]),
            code(each["path"]),
            "" if each["bytes"] is None else f"{each['bytes']:,}",
            "" if each["xxh3_128"] is None else code(each["xxh3_128"]),
        ]
        for each in inputs[:MOST_INPUTS]
    ]
    count = plural(len(inputs), "input file")
    shown = f"{count}, with checksums"
    if len(inputs) > MOST_INPUTS:
        shown = f"The first {MOST_INPUTS} of {count}; {MANIFEST} has all"
    listed = table(["source", "file", ">bytes", "xxh3-128"], rows)
    return f"<details>\n<summary>{shown}</summary>\n\n{listed}\n</details>\n"


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _licence(config: PublishConfig) -> Iterator[str]:
    yield "## Licence\n"
    if config.license is None:
        yield (
            "**Not stated.** Whoever published this data set has not said under which licence. The "
            "tokens are those of other people's texts: before you use them, find out what the "
            "licence of each source allows.\n"
        )
    else:
        yield (
            f"Published under **{text(config.license)}**, says whoever published it. The tokens "
            "are those of other people's texts, and a source may have a licence of its own that "
            "asks for more.\n"
        )
