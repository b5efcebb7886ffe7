"""What selection decided: duplicates, the split and copies, from the documents table and settings.

Duplicates and the split follow from equal content hashes, copies from each source's tokens.
"""

import math

import numpy as np

from ...schemas.manifest import MANIFEST, Manifest
from .documents import DUPLICATE, MIXING, VALIDATION, Documents
from .report import TOLERANCE, Problems

__all__ = ["check_content", "check_mixing"]

_document = "document {}".format


def check_content(d: Documents, settings: Manifest, problems: Problems) -> None:
    """Equal content is on one side of the split; a repeated one is dropped where dedup asks."""
    order = np.lexsort((d.content_hash[:, 0], d.content_hash[:, 1]))
    ordered, split = d.content_hash[order], d.split[order]
    repeats = (ordered == np.roll(ordered, 1, axis=0)).all(axis=1)
    repeats[:1] = False
    problems.each(
        "split",
        repeats & (split != np.roll(split, 1)),
        lambda i: f"documents {order[i - 1]} and {order[i]}",
        "equal content hashes, one in train and one in validation",
        "equal content on one side",
    )
    problems.each(
        "split",
        (d.split == VALIDATION) & (d.copies > 1),
        _document,
        lambda i: f"{d.copies[i]} copies in validation",
        "at most 1",
    )
    problems.note("split", f"{len(d):,} documents")
    # lexsort is stable: of equal hashes the first in the store comes first
    repeated = np.empty_like(repeats)
    repeated[order] = repeats
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
    problems.note("dedup", f"{len(d):,} documents, {np.count_nonzero(duplicate):,} duplicates")


def check_mixing(d: Documents, manifest: Manifest, problems: Problems) -> None:
    """Copies are floor(e) or one more, and their tokens e times the source's, to one document."""
    problems.each(
        "mixing",
        (d.split == VALIDATION) & (d.drop_reason == MIXING),
        _document,
        "dropped from validation by mixing",
        "mixing is for train",
    )
    eligible = (d.split != VALIDATION) & (d.drop_reason != DUPLICATE)
    for number, source in enumerate(manifest["sources"]):
        mine = eligible & (d.source == number)
        if not mine.any():
            continue
        name, e = f"source {source['name']}", source["copies"]
        n_tokens = d.n_tokens[mine].astype(np.int64)
        total = int(n_tokens.sum())
        asked = _asked_copies(source["name"], total, manifest["settings"])
        if asked is not None and not math.isclose(e, asked, rel_tol=TOLERANCE):
            problems.add("mixing", f"{MANIFEST}: {name}", f"copies {e}", asked)
        least, most = math.floor(e), math.ceil(e)
        problems.each(
            "mixing",
            mine & ((d.copies < least) | (d.copies > most)),
            _document,
            lambda i: f"{d.copies[i]} copies",
            f"{least} or {most}",
        )
        found = int((n_tokens * d.copies[mine]).sum())
        if abs(found - e * total) > n_tokens.max() + TOLERANCE * e * total:
            problems.add("mixing", name, f"{found:,} tokens", f"{e * total:,.0f}, to one document")
    problems.note("mixing", f"{len(manifest['sources'])} sources")


def _asked_copies(source: str, tokens: int, settings: Manifest) -> float | None:
    """The copies that the settings ask of a source; None where a budget scales its epochs."""
    asked, budget = settings["mixing"].get(source, {"epochs": 1}), settings["token_budget"]
    if budget is None:
        return asked.get("epochs")
    return asked["share"] * budget / tokens if "share" in asked else None
