"""Whether shards and model belong together: one vocabulary, and ids that the model embeds."""

from collections.abc import Mapping
from pathlib import Path

import xxhash
from tokenizers import Tokenizer
from tokenizers.models import BPE

from ...schemas.errors import FormatError, UsageError
from ...schemas.pointers import refuse_pointers
from ...schemas.regular import hash_regular, read_regular
from ...schemas.rust import is_of_library
from ...schemas.sizes import plural
from ..models.folder import read_config
from .shard_set import ShardSet

__all__ = ["PROBE", "check_agreement", "model_fingerprint"]

PROBE = (
    "The quick brown fox, 12345.678 km away;\tisn't it?\n\n"
    "  def f(x):\n    return x ** 2  # \u00b2\n"
    "\u00dcber na\u00efve caf\u00e9s \u2014 \u6f22\u5b57\u304b\u306a \ud55c\uad6d\uc5b4 "
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
    "\U0001f642 e\u0301"
)
"""Letters, digits, white space, code, and scripts that tokenizers treat differently."""

WEIGHT_FILES = ("*.safetensors", "*.bin")


def check_agreement(shards: ShardSet, model: Path) -> None:
    """Checks that the model has the tokenizer of the shards and embeds all of their ids.

    Vocabularies are compared, not files: saving a tokenizer again changes its JSON. Padding,
    truncation and dropout that are saved in a file do not count.

    Raises:
        UsageError: the model cannot be trained, the vocabularies differ, the tokenizers encode
            `PROBE` differently, or the shards have ids that the model lacks.
        FormatError: the model has no readable config.json or tokenizer.json.
        ExactcptError: one of its files is a pointer of Git LFS.
    """
    refuse_pointers(file for each in ("*.json", *WEIGHT_FILES) for file in model.glob(each))
    _check_ids(shards, model)
    theirs = model / "tokenizer.json"
    _check_tokenizers(_read(shards.tokenizer), _read(theirs), f"{shards.tokenizer}, {theirs}")


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
    if _encode_probe(ours) != _encode_probe(theirs):
        raise UsageError(
            "the tokenizers have the same vocabulary but encode text differently",
            where=where,
            fix="tokenize again with the model's tokenizer",
        )


def _encode_probe(tokenizer: Tokenizer) -> list[int] | None:
    """The ids of `PROBE`; None if the vocabulary cannot encode it, as one of few words cannot."""
    try:
        return tokenizer.encode(PROBE, add_special_tokens=False).ids
    except Exception:  # the library raises bare Exceptions
        return None


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
    files = (path for pattern in WEIGHT_FILES for path in model.glob(pattern))
    for path in sorted(files):
        found.update(f"{path.name} {path.stat().st_size}".encode())
        hash_regular(path, found)
    return found.hexdigest()


def _no_config(model: Path, error: Exception) -> FormatError:
    return FormatError(
        f"the model's config.json cannot be read: {error}",
        where=str(model / "config.json"),
        expected="a Hugging Face folder with config.json, tokenizer.json and weights",
    )


def _read(path: Path) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_str(read_regular(path).decode())
    except FormatError:
        raise
    except BaseException as error:  # the library raises nothing narrower
        if not is_of_library(error):
            raise
        raise FormatError(
            f"the tokenizer cannot be read: {error}",
            where=str(path),
            expected="a tokenizer.json",
            fix="save the model's tokenizer beside it: AutoTokenizer...save_pretrained(FOLDER)",
        ) from None
    # A file may hold what its last user set for batches, or for training with dropout. None of it
    # is part of how the documents of a shard set are encoded.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if isinstance(tokenizer.model, BPE):
        tokenizer.model.dropout = None
    return tokenizer
