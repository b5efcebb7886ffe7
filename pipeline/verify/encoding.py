"""The tokenizer, and what the tokens of a store do not say of its text."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...schemas.manifest import TOKENIZER, Manifest
from ...schemas.rust import is_of_library
from .arrays import Array
from .report import Problems

__all__ = ["check_counts_of_tokens", "check_vocabulary", "count_tokens"]


def _claims(manifest: Manifest) -> dict[str, Any]:
    """What the manifest says of the tokens of each source, if it says something."""
    return {
        s["name"]: s["read"]["encoding"] for s in manifest["sources"] if "encoding" in s["read"]
    }


def check_vocabulary(data: bytes, claims: Any, check: str, problems: Problems) -> None:
    """Checks that a tokenizer.json is one that can have given the ids.

    Args:
        data: its bytes.
        claims: what the manifest says of the tokenizer.
        check: the check that problems belong to.
        problems: takes what is wrong.
    """
    from tokenizers import Tokenizer

    try:
        vocabulary = Tokenizer.from_buffer(data).get_vocab(with_added_tokens=True)
    except BaseException as error:  # the library raises nothing narrower
        if not is_of_library(error):
            raise
        reason = " ".join(str(error).split())[:200]
        expected = "a tokenizer.json of the tokenizers library"
        problems.add(check, TOKENIZER, f"it is no tokenizer: {reason}", expected)
        return
    largest = max(vocabulary.values(), default=None)
    problems.compare(check, f"{TOKENIZER}: largest id", largest, claims["largest_id"])
    eos = claims["eos_token"]
    where = f"{TOKENIZER}: id of {eos!r}, which ends documents"
    problems.compare(check, where, vocabulary.get(eos), claims["eos_id"])


def count_tokens(batches: Iterable[tuple[Array, Array]], manifest: Manifest) -> Counter[str]:
    """Counts unknown tokens and inner ends in a part of a store.

    Args:
        batches: of each record batch, where its documents begin in its tokens, and these.
        manifest: of the store; one that an earlier version wrote has no such counts.
    """
    found = Counter[str]()
    if not _claims(manifest):
        return found
    unk, eos = manifest["tokenizer"].get("unk_id"), manifest["tokenizer"]["eos_id"]
    for offsets, values in batches:
        tokens = values[offsets[0] : offsets[-1]]
        ends_before = np.concatenate(([0], np.cumsum(tokens == eos, dtype=np.int64)))
        inner = np.maximum(np.diff(ends_before[offsets - offsets[0]]) - 1, 0)
        found += Counter(
            unknown_tokens=int(np.count_nonzero(tokens == unk)) if unk is not None else 0,
            inner_ends=int(inner.sum()),
            documents_with_inner_ends=int(np.count_nonzero(inner)),
        )
    return found


def check_counts_of_tokens(
    found: Mapping[str, Counter[str]], manifest: Manifest, problems: Problems
) -> None:
    """Compares the counts of the parts of each source with the store's manifest."""
    for name, claimed in _claims(manifest).items():
        for key in ("unknown_tokens", "inner_ends", "documents_with_inner_ends"):
            where = f"manifest.json: source {name}, read.encoding.{key}"
            problems.compare("store", where, claimed[key], found.get(name, Counter())[key])
