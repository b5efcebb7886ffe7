"""Tokenizers of every kind of model whose own vocabulary has the tokens between documents."""

import json
from collections.abc import Callable
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

BOS, EOS, PAD, UNK = SPECIALS = "<s>", "</s>", "<pad>", "<unk>"
LETTERS = "abcdefghijklmnopqrstuvwxyz</>|_\u2581 "
WORDS = ("the", "cat", "sat", "under", "a", "door")


def _of(model: Any, pre: Any, *, special: bool = True) -> Any:
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = pre
    made.add_tokens([AddedToken(token, special=special, normalized=False) for token in SPECIALS])
    return made


def unigram(*, byte_fallback: bool = False, special: bool = True) -> Any:
    pieces = [(token, 0.0) for token in SPECIALS]
    pieces += [(f"<0x{i:02X}>", 0.0) for i in range(256)] if byte_fallback else []
    pieces += [(letter, -8.0 - i / 7) for i, letter in enumerate(LETTERS)]
    pieces += [(f"\u2581{word}", -4.0 - i / 3) for i, word in enumerate(WORDS)]
    model = models.Unigram(pieces, unk_id=3, byte_fallback=byte_fallback)
    return _of(model, pre_tokenizers.Metaspace(), special=special)


def word_level(*, special: bool = True) -> Any:
    vocabulary = {word: i for i, word in enumerate((*SPECIALS, *WORDS))}
    model = models.WordLevel(vocabulary, unk_token=UNK)
    return _of(model, pre_tokenizers.WhitespaceSplit(), special=special)


def word_piece(*, special: bool = True) -> Any:
    pieces = (*SPECIALS, *WORDS, *LETTERS.strip(), *(f"##{letter}" for letter in LETTERS.strip()))
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=UNK)
    return _of(model, pre_tokenizers.WhitespaceSplit(), special=special)


def bpe(*, ignore_merges: bool = False, byte_fallback: bool = False, special: bool = True) -> Any:
    """Its merges lead to every special token, unless merges are ignored for whole words."""
    merges: list[tuple[str, str]] = []
    vocabulary = {token: i for i, token in enumerate(SPECIALS)}
    for token in (*SPECIALS, *WORDS) if not ignore_merges else WORDS:
        for at in range(1, len(token)):
            if (token[:at], token[at]) not in merges:
                merges.append((token[:at], token[at]))
    bytes_ = [f"<0x{i:02X}>" for i in range(256)] if byte_fallback else []
    for piece in (*bytes_, *LETTERS, *(a + b for a, b in merges)):
        vocabulary.setdefault(piece, len(vocabulary))
    model = models.BPE(
        vocabulary,
        merges,
        unk_token=UNK,
        ignore_merges=ignore_merges,
        byte_fallback=byte_fallback,
    )
    return _of(model, pre_tokenizers.Metaspace(prepend_scheme="never"), special=special)


def byte_level(text: str = "") -> Any:
    """Byte-level BPE, trained on a text; nothing is unknown to it."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([text], trainer)
    return made


KINDS: dict[str, Callable[..., Any]] = {
    "unigram": unigram,
    "unigram, byte fallback": lambda **how: unigram(byte_fallback=True, **how),
    "word level": word_level,
    "word piece": word_piece,
    "bpe": bpe,
    "bpe, merges ignored": lambda **how: bpe(ignore_merges=True, **how),
    "bpe, byte fallback": lambda **how: bpe(byte_fallback=True, **how),
}


def dumped(tokenizer: Any) -> bytes:
    return tokenizer.to_str().encode()


def changed(tokenizer: Any, **top: Any) -> bytes:
    """A tokenizer.json with other values at its top level."""
    return json.dumps(json.loads(tokenizer.to_str()) | top).encode()


def with_model(tokenizer: Any, **values: Any) -> bytes:
    """A tokenizer.json with other values in its model."""
    found = json.loads(tokenizer.to_str())
    found["model"] |= values
    return json.dumps(found).encode()


def producing(tokenizer: Any, character: str, token: str) -> Any:
    """The tokenizer, with a normalizer that makes a token's text of a character."""
    tokenizer.normalizer = normalizers.Replace(character, token)
    return tokenizer
