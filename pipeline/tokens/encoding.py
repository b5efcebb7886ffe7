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
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

__all__ = ["Facts", "encoding_json", "facts_of"]

NAMELESS = f"unreachable-{secrets.token_hex(16)}-"
"""How unreachable entries are called. It is drawn for every process, so that no text can have it,
and it is ASCII, so that a byte-level vocabulary can hold it."""
OF_BATCHES = ("truncation", "padding")
"""Members of a tokenizer.json that are about batches."""
SPACE = re.compile(r"[ \t\n\r]*")
"""What may stand between the tokens of JSON."""
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
    """See `encoding_json`: with the special added tokens, and without."""
    parsed = _parsed(data)
    members = {name: None if name in OF_BATCHES else v for name, v in parsed.members.items()}
    model, added = parsed.model, list(members.get("added_tokens") or [])
    if parsed.facts.dropout:
        model = _dumped(json.loads(model) | {"dropout": None})
    if not special_tokens_in_text:
        added = [t | {"special": True} if t["id"] in boundaries else t for t in added]
        hidden = [t["content"] for t in added if t.get("special")]
        inside = [token for token in hidden if token in parsed.inside]
        if inside:
            model, names = _hide(model, inside)
            # An added token takes its id from the vocabulary, by its name.
            added = [t | {"content": names.get(t["content"], t["content"])} for t in added]
    if added:
        members["added_tokens"] = added
    changed = members != parsed.members or model is not parsed.model
    named = _joined(members, model) if changed else data
    ordinary = [token for token in added if not token.get("special")]
    if special_tokens_in_text or len(ordinary) == len(added):
        return named, named
    return named, _joined(members | {"added_tokens": ordinary}, model)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _joined(members: dict[str, Any], model: bytes) -> bytes:
    """The tokenizer.json with these members and this model."""
    texts = {name: _dumped(value) for name, value in members.items()} | {"model": model}
    return b"{%s}" % b", ".join(b"%s: %s" % (_dumped(name), text) for name, text in texts.items())


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


class _Parsed(NamedTuple):
    """A tokenizer.json.

    Attributes:
        members: all of it but the model.
        model: the JSON of the model: nearly the whole of a large file. It takes long to parse, and
            again to write, so it stays text.
        facts: see `Facts`.
        inside: the added tokens that are in the model's vocabulary, too.
    """

    members: dict[str, Any]
    model: bytes
    facts: Facts
    inside: frozenset[str]


def facts_of(data: bytes) -> Facts:
    """Reads the facts of a tokenizer.json that `tokenizers` loads."""
    return _parsed(data).facts


@lru_cache(maxsize=2)
def _parsed(data: bytes) -> _Parsed:
    text = data.decode()
    spans = {name: (value, begin, end) for name, value, begin, end in _members_of(text)}
    model, begin, end = spans.pop("model")
    members = {name: value for name, (value, _, _) in spans.items()}
    added = members.get("added_tokens") or []
    facts = Facts(
        dropout=model.get("dropout") or None,
        unk_id=_unknown_id(model),
        largest_id=_largest_id(model["vocab"]),
        special_tokens=tuple(token["content"] for token in added if token.get("special")),
    )
    inside = _inside(model["vocab"], {token["content"] for token in added})
    # A text with an emoji takes four bytes per character: the model is not cut out of it.
    begin, end = len(text[:begin].encode()), len(data) - len(text[end:].encode())
    return _Parsed(members, data[begin:end], facts, inside)


def _members_of(text: str) -> Iterator[tuple[str, Any, int, int]]:
    """The name and the value of each member of a JSON object, and where the value is."""
    decode = json.JSONDecoder().raw_decode
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        name, at = decode(text, at)
        begin = _after_space(text, text.index(":", at) + 1)
        value, end = decode(text, begin)
        yield name, value, begin, end
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)


def _after_space(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _unknown_id(model: dict[str, Any]) -> int | None:
    if isinstance(model.get("vocab"), list):
        return model.get("unk_id")
    return model["vocab"].get(model.get("unk_token"))


def _largest_id(vocabulary: list[Any] | dict[str, int]) -> int:
    ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    return max(ids, default=-1)


def _inside(vocabulary: list[Any] | dict[str, int], tokens: set[str]) -> frozenset[str]:
    """Those of the tokens that a vocabulary has."""
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score
        return frozenset(token for token, _ in vocabulary if token in tokens)
    return frozenset(tokens & vocabulary.keys())


def _hide(model: bytes, inside: list[str]) -> tuple[bytes, dict[str, str]]:
    """A model in which those of its tokens that a text could become have other names; the names."""
    parsed = json.loads(model)
    names = {token: f"{NAMELESS}{i}" for i, token in enumerate(_reachable(parsed, inside))}
    return (_dumped(_renamed(parsed, names)) if names else model), names


def _reachable(model: dict[str, Any], inside: list[str]) -> list[str]:
    """Those of some tokens of its vocabulary that a model may find in a text by itself."""
    if "merges" not in model or model.get("ignore_merges"):
        return inside
    products = {_product(model, merge) for merge in model["merges"]}
    return [
        token
        for token in inside
        if token in products or len(_bare(model, token)) == 1 or BYTE_TOKEN.fullmatch(token)
    ]


def _parts(merge: str | list[str]) -> list[str]:
    """The two tokens of a merge; older files have them in one string."""
    return merge if isinstance(merge, list) else [*merge.partition(" ")[::2]]


def _product(model: dict[str, Any], merge: str | list[str]) -> str:
    first, second = _parts(merge)
    return first + second.removeprefix(model.get("continuing_subword_prefix") or "")


def _bare(model: dict[str, Any], token: str) -> str:
    """A token without what marks it as inside a word or at its end."""
    prefix, suffix = (
        model.get(key) or "" for key in ("continuing_subword_prefix", "end_of_word_suffix")
    )
    return token.removeprefix(prefix).removesuffix(suffix)


def _renamed(model: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """A model with other names of tokens; merges that lead to these are left out."""
    named = dict(model)
    if isinstance(model["vocab"], list):
        named["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    else:
        named["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    if "unk_token" in model:
        named["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        named["merges"] = [
            merge
            for merge in model["merges"]
            if names.keys().isdisjoint((*_parts(merge), _product(model, merge)))
        ]
    return named
