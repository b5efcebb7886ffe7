"""The tokenizer.json that documents are encoded with: the same ids every time, and whole documents.

A tokenizer.json may hold settings of the program that saved it: dropout, which makes encoding
random, and truncation and padding, which are about batches. None of them is part of how a document
is encoded.

Where special tokens in a text are ordinary text, no text may become one of them. Both libraries can
be told not to search a text for added tokens, but the model underneath has most of these tokens in
its own vocabulary: Unigram and WordLevel find them there, WordPiece too, and BPE wherever merges
lead to them. So such entries get a name that no text contains. Their ids and scores stay, and so
does everything else.
"""

import json
import re
import secrets
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["Facts", "encoding_json", "facts_of"]

NAMELESS = f"unreachable-{secrets.token_hex(16)}-"
"""How unreachable entries are called. It is drawn for every process, so that no text can have it,
and it is ASCII, so that a byte-level vocabulary can hold it."""
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


def encoding_json(
    data: bytes,
    special_tokens_in_text: bool,
    boundaries: frozenset[int] = frozenset(),
    *,
    named: bool = True,
) -> bytes:
    """The tokenizer.json that documents are encoded with; `data` itself if nothing has to change.

    Args:
        data: the bytes of a tokenizer.json that `tokenizers` loads.
        special_tokens_in_text: whether the text of a special token becomes that token.
        boundaries: ids that begin or end documents. If they are added tokens, no text becomes one,
            whether they are marked as special or not.
        named: whether special added tokens that no text may become are named at all. A library
            that finds in a text whatever is named needs them left out.
    """
    with_names, without = _encoding_jsons(data, special_tokens_in_text, boundaries)
    return with_names if named else without


@lru_cache(maxsize=8)
def _encoding_jsons(
    data: bytes, special_tokens_in_text: bool, boundaries: frozenset[int]
) -> tuple[bytes, bytes]:
    """See `encoding_json`: with the special added tokens, and without; large files parse slowly."""
    tokenizer = json.loads(data)
    changed = False
    for key in ("truncation", "padding"):
        if tokenizer.get(key) is not None:
            tokenizer[key], changed = None, True
    model = tokenizer["model"]
    if model.get("dropout"):
        model["dropout"], changed = None, True
    if not special_tokens_in_text:
        changed |= _hide_added_tokens(tokenizer, boundaries)
    named = _dumped(tokenizer) if changed else data
    if special_tokens_in_text or not _leave_out_special_tokens(tokenizer):
        return named, named
    return named, _dumped(tokenizer)


def _dumped(tokenizer: dict[str, Any]) -> bytes:
    return json.dumps(tokenizer, ensure_ascii=False).encode()


class Facts(NamedTuple):
    """What a tokenizer.json says of itself.

    Attributes:
        dropout: the dropout that is saved in it; None if there is none.
        unk_id: the id that the model gives for what its vocabulary lacks; None if it has none.
        largest_id: the largest id of the model's vocabulary, without added tokens; -1 if that is
            empty. Ids may have holes.
        special_tokens: the texts of the special added tokens.
    """

    dropout: float | None
    unk_id: int | None
    largest_id: int
    special_tokens: tuple[str, ...]


def facts_of(data: bytes) -> Facts:
    """Reads the facts of a tokenizer.json that `tokenizers` loads."""
    tokenizer = json.loads(data)
    model = tokenizer["model"]
    added = tokenizer.get("added_tokens") or []
    return Facts(
        dropout=model.get("dropout") or None,
        unk_id=_unknown_id(model),
        largest_id=_largest_id(model["vocab"]),
        special_tokens=tuple(token["content"] for token in added if token.get("special")),
    )


def _unknown_id(model: dict[str, Any]) -> int | None:
    if isinstance(model.get("vocab"), list):
        return model.get("unk_id")
    return model["vocab"].get(model.get("unk_token"))


def _largest_id(vocabulary: list[Any] | dict[str, int]) -> int:
    ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    return max(ids, default=-1)


def _hide_added_tokens(tokenizer: dict[str, Any], boundaries: Collection[int]) -> bool:
    """Sees to it that no text becomes an added token that is special or a boundary."""
    changed = False
    hidden: list[str] = []
    for token in tokenizer.get("added_tokens") or []:
        if token["id"] in boundaries and not token.get("special"):
            token["special"] = changed = True
        if token.get("special"):
            hidden.append(token["content"])
    reachable = _reachable(tokenizer["model"], hidden)
    names = {content: f"{NAMELESS}{i}" for i, content in enumerate(reachable)}
    if names:
        _rename(tokenizer, names)
    return changed or bool(names)


def _leave_out_special_tokens(tokenizer: dict[str, Any]) -> bool:
    """Leaves out the special added tokens; says whether there were some."""
    added = tokenizer.get("added_tokens") or []
    tokenizer["added_tokens"] = [token for token in added if not token.get("special")]
    return len(tokenizer["added_tokens"]) < len(added)


def _reachable(model: dict[str, Any], tokens: Iterable[str]) -> list[str]:
    """Those of the tokens that the model may find in a text by itself."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score
        known = {token for token, _ in vocabulary}
        return [token for token in tokens if token in known]
    inside = [token for token in tokens if token in vocabulary]
    if not inside or "merges" not in model or model.get("ignore_merges"):
        return inside
    products = {_product(model, merge) for merge in model["merges"]}
    return [
        token
        for token in inside
        if token in products or len(_bare(model, token)) == 1 or BYTE_TOKEN.fullmatch(token)
    ]


def _parts(merge: str | list[str]) -> list[str]:
    """The two tokens of a merge; older files have them in one string."""
    return merge.split(" ", 1) if isinstance(merge, str) else merge


def _product(model: dict[str, Any], merge: str | list[str]) -> str:
    first, second = _parts(merge)
    return first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def _bare(model: dict[str, Any], token: str) -> str:
    """A token without what marks it as inside a word or at its end."""
    prefix, suffix = (
        model.get(key) or "" for key in ("continuing_subword_prefix", "end_of_word_suffix")
    )
    return token.removeprefix(prefix).removesuffix(suffix)


def _rename(tokenizer: dict[str, Any], names: dict[str, str]) -> None:
    """Gives tokens other names wherever they are named; merges that lead to them are left out."""
    model = tokenizer["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    if "unk_token" in model:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        model["merges"] = [
            merge
            for merge in model["merges"]
            if names.keys().isdisjoint((*_parts(merge), _product(model, merge)))
        ]
    # An added token takes its id from the vocabulary, by its name.
    for token in tokenizer["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
