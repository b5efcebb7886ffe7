"""Token ids to text that a person can read, every piece with the tokens it comes from.

A character may be spread over several tokens, and the text of a token may depend on those before
it. So a run is decoded as a stream: tokens wait until they make whole characters.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...schemas.errors import FormatError, IncompleteError
from ...schemas.manifest import TOKENIZER
from ...schemas.printable import printable
from ...schemas.rust import is_of_library
from ..files.storage import Folder

__all__ = ["Piece", "decode", "open_tokenizer", "visible"]

MOST_WAITING = 64
"""How many tokens wait for the rest of a character; invalid UTF-8 would wait forever."""


class Piece(NamedTuple):
    """The text of the tokens start..stop-1."""

    start: int
    stop: int
    text: str


def open_tokenizer(shards: Folder) -> Any:
    """The tokenizer of a shard set.

    Raises:
        IncompleteError: there is none.
        FormatError: it cannot be read.
    """
    import tokenizers

    where = shards.url_of(TOKENIZER)
    if not shards.exists(TOKENIZER):
        raise IncompleteError(
            "the shard set has no tokenizer.json, so its tokens have no text",
            where=where,
            fix="copy the tokenizer that the set was made with to this path",
        )
    try:
        return tokenizers.Tokenizer.from_str(shards.read(TOKENIZER).decode())
    except BaseException as error:  # tokenizers raises nothing narrower
        if not is_of_library(error):
            raise
        raise FormatError(f"the tokenizer cannot be read: {error}", where=where) from None


def decode(tokenizer: Any, ids: Sequence[int]) -> Iterator[Piece]:
    """The text of a run of tokens, in pieces that belong to whole tokens."""
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    start = 0
    for i, token in enumerate(ids):
        if tokenizer.id_to_token(token) is None:
            yield from _rest(tokenizer, ids, start, i)
            yield Piece(i, i + 1, f"<id {token}>")
            stream, start = DecodeStream(skip_special_tokens=False), i + 1
            continue
        try:
            text = stream.step(tokenizer, token)
        except Exception:  # the decoder took back text that it had returned before
            text, stream = None, DecodeStream(skip_special_tokens=False)
            yield from _rest(tokenizer, ids, start, i + 1)
            start = i + 1
        if text is not None:
            yield Piece(start, i + 1, text)
            start = i + 1
        elif i + 1 - start == MOST_WAITING:
            yield from _rest(tokenizer, ids, start, i + 1)
            stream, start = DecodeStream(skip_special_tokens=False), i + 1
    yield from _rest(tokenizer, ids, start, len(ids))


def _rest(tokenizer: Any, ids: Sequence[int], start: int, stop: int) -> Iterator[Piece]:
    if start < stop:
        text = tokenizer.decode(list(ids[start:stop]), skip_special_tokens=False)
        yield Piece(start, stop, text)


def visible(text: str) -> str:
    """A text on one line, without anything that a terminal would obey."""
    return printable(text.replace("\n", "↵").replace("\t", " "))
