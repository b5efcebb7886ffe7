"""A tokenizer.json, read for what it does to text: its vocabulary, and how it encodes."""

from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import BPE

from ...schemas.errors import FormatError
from ...schemas.regular import read_regular
from ...schemas.rust import is_of_library

__all__ = ["encoded_probe", "read_tokenizer"]

PROBE = (
    "The quick brown fox, 12345.678 km away;\tisn't it?\n\n"
    "  def f(x):\n    return x ** 2  # \u00b2\n"
    "\u00dcber na\u00efve caf\u00e9s \u2014 \u6f22\u5b57\u304b\u306a \ud55c\uad6d\uc5b4 "
    "\u0440\u0443\u0441\u0441\u043a\u0438\u0439 \u0627\u0644\u0639\u0631\u0628\u064a\u0629 "
    "\U0001f642 e\u0301"
)
"""Letters, digits, white space, code, and scripts that tokenizers treat differently."""


def encoded_probe(tokenizer: Tokenizer) -> list[int] | None:
    """The ids of `PROBE`; None if the vocabulary cannot encode it, as one of few words cannot."""
    try:
        return tokenizer.encode(PROBE, add_special_tokens=False).ids
    except Exception:  # the library raises bare Exceptions
        return None


def read_tokenizer(path: Path) -> Tokenizer:
    """Reads a tokenizer.json, without what it may hold besides its encoding.

    Raises:
        FormatError: it cannot be read.
    """
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
