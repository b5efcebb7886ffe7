"""Whether shards and model are made for each other: one vocabulary, ids the model has."""

import json
from pathlib import Path
from typing import Any

import xxhash
from tokenizers import Tokenizer

from ...schemas.errors import FormatError, UsageError
from .shard_set import ShardSet

__all__ = ["check_agreement", "model_fingerprint"]

PROBE = (
    "The quick brown fox, 12345.678 km away;\tisn't it?\n\n"
    "  def f(x):\n    return x ** 2  # \u00b2\n"
    "\u00dcber na\u00efve caf\u00e9s \u2014 \u6f22\u5b57\u304b\u306a \ud55c\uad6d\uc5b4 "
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
    "\U0001f642 e\u0301"
)
"""Letters, digits, white space, code, and scripts that tokenizers treat in ways of their own."""

WEIGHT_FILES = ("*.safetensors", "*.bin")

BLOCK = 1 << 24


def check_agreement(shards: ShardSet, model: Path) -> None:
    """Compares the tokenizer of the shards with the model's, and their ids with its embedding.

    Vocabularies are compared, not files: saving a tokenizer again changes its JSON.

    Raises:
        UsageError: no such folder, other vocabularies, another encoding of the probe, or ids that
            the model lacks.
        FormatError: the model has no readable config.json or tokenizer.json.
    """
    rows = _config(model).get("vocab_size", 0)
    if shards.largest_id >= rows:
        raise UsageError(
            f"the shards have ids up to {shards.largest_id:,}, and the model embeds {rows:,}",
            where=f"{shards.root}, {model}",
            fix="take the model that the tokenizer belongs to",
        )
    ours, theirs = _read(shards.tokenizer), _read(model / "tokenizer.json")
    one, other = ours.get_vocab(True), theirs.get_vocab(True)
    if one != other:
        different = sorted(
            (token for token in one.keys() | other.keys() if one.get(token) != other.get(token)),
            key=lambda token: (min(one.get(token, 1 << 60), other.get(token, 1 << 60)), token),
        )
        token = different[0]
        raise UsageError(
            f"the vocabularies differ in {len(different):,} tokens: {token!r} is id "
            f"{one.get(token)} in the shards and {other.get(token)} in the model",
            where=f"{shards.tokenizer}, {model / 'tokenizer.json'}",
            fix="tokenize again with the model's tokenizer, or take the model it belongs to",
        )
    if ours.encode(PROBE, add_special_tokens=False).ids != (
        theirs.encode(PROBE, add_special_tokens=False).ids
    ):
        raise UsageError(
            "the tokenizers have one vocabulary and encode text differently",
            where=f"{shards.tokenizer}, {model / 'tokenizer.json'}",
            fix="tokenize again with the model's tokenizer",
        )


def model_fingerprint(model: Path) -> str:
    """xxh3-128 over config.json and the name and every byte of each file of weights.

    Raises:
        FormatError: the model has no config.json.
    """
    try:
        found = xxhash.xxh3_128((model / "config.json").read_bytes())
    except OSError as error:
        raise _no_config(model, error) from None
    block = memoryview(bytearray(BLOCK))
    files = (path for pattern in WEIGHT_FILES for path in model.glob(pattern))
    for path in sorted(files):
        found.update(f"{path.name} {path.stat().st_size}".encode())
        with path.open("rb", buffering=0) as file:
            while read := file.readinto(block):
                found.update(block[:read])
    return found.hexdigest()


def _config(model: Path) -> dict[str, Any]:
    if not model.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(model),
            expected="a Hugging Face folder with config.json, tokenizer.json and weights",
            fix="of a model of the hub: hf download NAME --local-dir FOLDER",
        )
    try:
        return json.loads((model / "config.json").read_bytes())
    except (OSError, ValueError) as error:
        raise _no_config(model, error) from None


def _no_config(model: Path, error: Exception) -> FormatError:
    return FormatError(
        f"the model's config.json cannot be read: {error}",
        where=str(model / "config.json"),
        expected="a Hugging Face folder with config.json, tokenizer.json and weights",
    )


def _read(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:  # the library raises bare Exceptions
        raise FormatError(
            f"the tokenizer cannot be read: {error}",
            where=str(path),
            expected="a tokenizer.json",
            fix="save the model's tokenizer beside it: AutoTokenizer...save_pretrained(FOLDER)",
        ) from None
