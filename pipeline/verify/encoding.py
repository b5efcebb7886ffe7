"""The tokenizer, and what the tokens of a store do not say of its text."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...schemas.manifest import TOKENIZER, Manifest
from ...schemas.rust import is_of_library
from .arrays import Array
from .report import Problems

__all__ = ["check_counts_of_tokens", "check_vocabulary"]


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


def check_counts_of_tokens(
    parts: Iterable[tuple[str, Array, Array]], manifest: Manifest, problems: Problems
) -> None:
    """Counts unknown tokens and inner ends again, and compares them with the store's manifest.

    Args:
        parts: of each record batch the source, and where its documents begin in its tokens.
        manifest: of the store; one that an earlier version wrote has no such counts.
        problems: takes what differs.
    """
    claims = {
        s["name"]: s["read"]["encoding"] for s in manifest["sources"] if "encoding" in s["read"]
    }
    if not claims:
        return
    unk, eos = manifest["tokenizer"].get("unk_id"), manifest["tokenizer"]["eos_id"]
    found = defaultdict[str, Counter[str]](Counter)
    for source, offsets, values in parts:
        tokens = values[offsets[0] : offsets[-1]]
        ends_before = np.concatenate(([0], np.cumsum(tokens == eos, dtype=np.int64)))
        inner = np.maximum(np.diff(ends_before[offsets - offsets[0]]) - 1, 0)
        found[source] += Counter(
            unknown_tokens=int(np.count_nonzero(tokens == unk)) if unk is not None else 0,
            inner_ends=int(inner.sum()),
            documents_with_inner_ends=int(np.count_nonzero(inner)),
        )
    for name, claimed in claims.items():
        for key in ("unknown_tokens", "inner_ends", "documents_with_inner_ends"):
            where = f"manifest.json: source {name}, read.encoding.{key}"
            problems.compare("store", where, claimed[key], found[name][key])
