"""Why a file is no tokenizer that can be used, and what to do about it."""

import codecs
from collections.abc import Collection

from ...schemas.errors import ExactcptError

__all__ = ["no_tokenizer", "not_a_tokenizer"]

EXPECTED = "a tokenizer.json of the tokenizers library"
OTHER_KINDS = {
    "tokenizer.model": "a SentencePiece model",
    "spiece.model": "a SentencePiece model",
    "sentencepiece.bpe.model": "a SentencePiece model",
    "vocab.json": "a vocabulary without its tokenizer",
    "vocab.txt": "a vocabulary without its tokenizer",
    "tekken.json": "a tekken vocabulary",
    "tiktoken.model": "a tiktoken vocabulary",
}
"""Files of other libraries, by name."""
CONVERT = (
    "convert it with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) "
    "writes a tokenizer.json"
)
MARKS = {
    codecs.BOM_UTF8: "UTF-8 with a byte order mark",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def no_tokenizer(url: str, beside: Collection[str]) -> ExactcptError:
    """The error for a tokenizer.json that is not there.

    Args:
        url: where it was looked for.
        beside: the names of the files in that folder.
    """
    other = next((name for name in OTHER_KINDS if name in beside), None)
    if other is None:
        return ExactcptError(
            "there is no such tokenizer",
            where=url,
            expected=f"{EXPECTED}, a folder that has one, or OWNER/NAME of the Hugging Face hub",
        )
    return ExactcptError(
        f"the folder has no tokenizer.json, but {other}, {OTHER_KINDS[other]}",
        where=url,
        expected=EXPECTED,
        fix=CONVERT,
    )


def not_a_tokenizer(data: bytes, url: str, reason: str) -> ExactcptError:
    """The error for a file that `tokenizers` cannot load.

    Args:
        data: its content.
        url: where it is.
        reason: what the library says, on one line.
    """
    mark = next((kind for mark, kind in MARKS.items() if data.startswith(mark)), None)
    name = url.rpartition("/")[2]
    fix = None
    if mark is not None:
        reason, fix = f"it is {mark}", "save it as UTF-8 without a byte order mark"
    elif name.endswith(".model"):
        reason, fix = f"it is {OTHER_KINDS.get(name, 'a SentencePiece model')}", CONVERT
    elif name in OTHER_KINDS:
        reason, fix = f"it is {OTHER_KINDS[name]}", CONVERT
    found = f"this is not a tokenizer: {reason}"
    return ExactcptError(found, where=url, expected=EXPECTED, fix=fix)
