"""The decisions of selection: the split, duplicates and copies.

They follow from content hashes, lengths, the seed and the settings, as the format's README says,
and are made here a second time.
"""

import math
from fractions import Fraction

import numpy as np

from ...schemas import shard
from ...schemas.manifest import MANIFEST, Manifest
from ...schemas.sizes import plural
from .arrays import Array
from .documents import DUPLICATE, MIXING, VALIDATION, Documents
from .draws import Purpose, mix, prefixes
from .report import TOLERANCE, Problems

__all__ = ["check_duplicates", "check_mixing", "check_split"]

MOST_COPIES = 1000

_document = "document {}".format


def check_split(d: Documents, settings: Manifest, problems: Problems) -> None:
    """Checks that every document is in the split that its content and the seed give it.

    Windows that somebody else has packed are in the split that their source was named for.
    """
    if settings["packing"] == shard.GIVEN:
        problems.note("split", plural(len(d), "document"))
        return
    drawn = mix(prefixes(d.content_hash), settings["seed"], Purpose.SPLIT)
    limit = int(Fraction(str(settings["validation_fraction"])) * 2**64)
    validates = drawn <= np.uint64(limit - 1) if limit else np.zeros(len(d), np.bool_)
    problems.each(
        "split",
        validates != (d.split == VALIDATION),
        _document,
        lambda i: f"not in {shard.SPLITS[int(validates[i])]}",
        lambda i: f"{shard.SPLITS[int(validates[i])]}, by its content, the seed and the fraction",
    )
    problems.each(
        "split",
        (d.split == VALIDATION) & (d.copies > 1),
        _document,
        lambda i: f"{d.copies[i]} copies in validation",
        "at most 1",
    )
    problems.note("split", plural(len(d), "document"))


def check_duplicates(d: Documents, settings: Manifest, problems: Problems) -> None:
    """Checks that dedup, if it is on, drops every document with the content of an earlier one."""
    # lexsort is stable: of equal hashes the first in the store comes first
    order = np.lexsort((d.content_hash[:, 0], d.content_hash[:, 1]))
    ordered = d.content_hash[order]
    repeated = np.zeros(len(d), np.bool_)
    repeated[order[1:]] = (ordered[1:] == ordered[:-1]).all(axis=1)
    dedup = settings["dedup"]
    duplicate = repeated & (dedup == "exact")
    problems.each(
        "dedup",
        duplicate != (d.drop_reason == DUPLICATE),
        _document,
        lambda i: f"{'not ' if duplicate[i] else ''}dropped as a duplicate",
        lambda i: (
            f"dedup is {dedup}; {'an' if repeated[i] else 'no'} earlier document has its content"
        ),
    )
    duplicates = plural(int(np.count_nonzero(duplicate)), "duplicate")
    problems.note("dedup", f"{plural(len(d), 'document')}, {duplicates}")


def check_mixing(d: Documents, manifest: Manifest, problems: Problems) -> None:
    """Checks that documents have the copies that follow from settings, lengths and ranks."""
    problems.each(
        "mixing",
        (d.split == VALIDATION) & (d.drop_reason == MIXING),
        _document,
        "dropped from validation by mixing",
        "mixing applies to train only",
    )
    settings, sources = manifest["settings"], manifest["sources"]
    eligible = (d.split != VALIDATION) & (d.drop_reason != DUPLICATE)
    documents = [np.flatnonzero(eligible & (d.source == i)) for i in range(len(sources))]
    tokens = {
        source["name"]: int(d.n_tokens[mine].sum(dtype=np.int64))
        for source, mine in zip(sources, documents, strict=True)
    }
    for source, mine in zip(sources, documents, strict=True):
        name = source["name"]
        asked = _asked_copies(name, tokens, settings)
        if not math.isclose(source["copies"], asked, rel_tol=TOLERANCE):
            where = f"{MANIFEST}: source {name}"
            problems.add("mixing", where, f"copies {source['copies']}", float(asked))
        if asked > MOST_COPIES:
            problems.add("mixing", f"source {name}", f"{float(asked):g} copies", "at most 1000")
            continue
        expected = _copies(d, mine, asked, tokens[name], settings["seed"])
        problems.each(
            "mixing",
            d.copies[mine] != expected,
            lambda i, mine=mine: _document(mine[i]),
            lambda i, mine=mine: plural(int(d.copies[mine[i]]), "copy", "copies"),
            lambda i, expected=expected: f"{expected[i]}, by the source's mixing and the seed",
        )
    documents_checked = plural(int(np.count_nonzero(eligible)), "document")
    problems.note("mixing", f"{plural(len(sources), 'source')}, {documents_checked}")


def _copies(d: Documents, mine: Array, asked: Fraction, tokens: int, seed: int) -> Array:
    """Copies of a source's documents: in the order of ranks, one more until the target is met."""
    least = math.floor(asked)
    target = math.floor((asked - least) * tokens)
    ranks = mix(prefixes(d.content_hash[mine]), seed, Purpose.MIXING)
    order = np.argsort(ranks, kind="stable")
    n_tokens = d.n_tokens[mine][order].astype(np.int64)
    before = np.cumsum(n_tokens) - n_tokens
    copies = np.empty(len(mine), np.int64)
    copies[order] = least + (before < target)
    return copies


def _asked_copies(source: str, tokens: dict[str, int], settings: Manifest) -> Fraction:
    """How many times a source is to be seen, as a mean over its training tokens."""
    asked = {name: settings["mixing"].get(name, {"epochs": 1}) for name in tokens}
    budget = settings["token_budget"]
    epochs = {n: Fraction(str(m["epochs"])) for n, m in asked.items() if "epochs" in m}
    if budget is None:
        return epochs[source]
    shares = {n: Fraction(str(m["share"])) for n, m in asked.items() if "share" in m}
    if source in shares:
        return shares[source] * budget / tokens[source] if tokens[source] else Fraction(0)
    weight = sum((e * tokens[n] for n, e in epochs.items()), Fraction(0))
    rest = (1 - sum(shares.values())) * budget
    return epochs[source] * rest / weight if weight else Fraction(0)
