"""Whether shards and model belong together: one vocabulary, and ids that the model embeds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xxhash
from tokenizers import Tokenizer

from ...schemas.errors import FormatError, UsageError
from ...schemas.pointers import refuse_pointers
from ...schemas.regular import hash_regular, read_regular
from ...schemas.shard_set import ShardSet
from ...schemas.sizes import plural
from ..models.folder import read_config
from .tokenizer_file import encoded_probe, read_tokenizer

__all__ = ["check_agreement", "end_token_of", "model_fingerprint", "model_stamps"]

WEIGHT_FILES = ("*.safetensors", "*.bin")


def check_agreement(shards: ShardSet, model: Path) -> None:
    """Checks that the model has the tokenizer of the shards and embeds all of their ids.

    Vocabularies are compared, not files: saving a tokenizer again changes its JSON. Padding,
    truncation and dropout that are saved in a file do not count.

    Raises:
        UsageError: the model cannot be trained, the vocabularies differ, the tokenizers encode
            text differently, or the shards have ids that the model lacks.
        FormatError: the model has no readable config.json or tokenizer.json.
        ExactcptError: one of its files is a pointer of Git LFS.
    """
    refuse_pointers(file for each in ("*.json", *WEIGHT_FILES) for file in model.glob(each))
    _check_ids(shards, model)
    theirs = model / "tokenizer.json"
    ours = shards.tokenizer
    _check_tokenizers(read_tokenizer(ours), read_tokenizer(theirs), f"{ours}, {theirs}")


def end_token_of(shards: ShardSet) -> str | None:
    """The token that ends every document; None if the vocabulary does not have it.

    Raises:
        FormatError: the tokenizer cannot be read.
    """
    named = shards.manifest["tokenizer"]
    has = read_tokenizer(shards.tokenizer).token_to_id(named["eos_token"]) == named["eos_id"]
    return named["eos_token"] if has else None


def _check_ids(shards: ShardSet, model: Path) -> None:
    rows = read_config(model)["vocab_size"]
    if shards.largest_id >= rows:
        raise UsageError(
            f"the shards have token ids up to {shards.largest_id:,}, but the model embeds only "
            f"{plural(rows, 'token')}",
            where=f"{shards.root}, {model}",
            fix="use the model that the tokenizer belongs to",
        )


def _check_tokenizers(ours: Tokenizer, theirs: Tokenizer, where: str) -> None:
    one, other = ours.get_vocab(True), theirs.get_vocab(True)
    if one != other:
        different = sorted(
            (token for token in one.keys() | other.keys() if one.get(token) != other.get(token)),
            key=lambda token: (min(one.get(token, 1 << 60), other.get(token, 1 << 60)), token),
        )
        token = different[0]
        raise UsageError(
            f"the vocabularies differ in {plural(len(different), 'token')}: {token!r} has "
            f"{_id(one, token)} in the shards and {_id(other, token)} in the model",
            where=where,
            fix="tokenize again with the model's tokenizer, or use the model that the tokenizer "
            "belongs to",
        )
    if encoded_probe(ours) != encoded_probe(theirs):
        raise UsageError(
            "the tokenizers have the same vocabulary but encode text differently",
            where=where,
            fix="tokenize again with the model's tokenizer",
        )


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return f"id {vocabulary[token]}" if token in vocabulary else "no id"


def model_fingerprint(model: Path) -> str:
    """The xxh3-128 digest of config.json and of the names and contents of all weight files.

    Raises:
        FormatError: the model has no config.json, or one of the others is no ordinary file.
    """
    try:
        found = xxhash.xxh3_128(read_regular(model / "config.json"))
    except OSError as error:
        raise _no_config(model, error) from None
    for path in _weight_files(model):
        found.update(f"{path.name} {path.stat().st_size}".encode())
        hash_regular(path, found)
    return found.hexdigest()


def model_stamps(model: Path) -> list[list[Any]]:
    """Name, size, and time of the last change in ns, of every file that the fingerprint is of."""
    files = [path for path in (model / "config.json", *_weight_files(model)) if path.exists()]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _weight_files(model: Path) -> list[Path]:
    return sorted(path for pattern in WEIGHT_FILES for path in model.glob(pattern))


def _no_config(model: Path, error: Exception) -> FormatError:
    return FormatError(
        f"the model's config.json cannot be read: {error}",
        where=str(model / "config.json"),
        expected="a Hugging Face folder with config.json, tokenizer.json and weights",
    )
