"""Records that a reader finds one by one, gathered into batches of a few MiB."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from .answers import Piece
from .records import BLOCK_BYTES, Batch, Fields, Rejected, Strings

__all__ = ["MOST_RECORDS", "Item", "gather", "text_item"]

MOST_RECORDS = 1024
"""Of a batch: the texts may be a small part of the file, and a batch must not wait for its end."""


class Item(NamedTuple):
    """A record: its id, if it has one, and its document; or the reason why it is rejected."""

    id: str | None
    content: bytes | list[int] | list[Piece]
    reason: str | None = None

    @classmethod
    def rejected(cls, reason: str) -> "Item":
        """A record that is rejected."""
        return cls(None, b"", reason)


def text_item(name: str | None, text: bytes) -> Item:
    """A record with a text, rejected if the text or the id is not UTF-8."""
    try:
        text.decode("utf-8")
        (name or "").encode("utf-8")
    except UnicodeError:
        return Item.rejected("invalid UTF-8")
    return Item(name, text)


def gather(items: Iterable[Item], file: str, fields: Fields) -> Iterator[Batch]:
    """Yields batches of records.

    Args:
        items: the records of the file, in order; they are numbered from 1.
        file: the file's name, for ids and rejected records.
        fields: whether documents are texts or token ids.
    """
    waiting: list[tuple[int, Item]] = []
    held = 0
    for numbered in enumerate(items, 1):
        waiting.append(numbered)
        content: Any = numbered[1].content
        held += len(content) if fields.form is None else sum(len(text) for text, _ in content)
        if held >= BLOCK_BYTES or len(waiting) == MOST_RECORDS:
            yield _batch(waiting, file, fields)
            waiting, held = [], 0
    if waiting:
        yield _batch(waiting, file, fields)


def _batch(numbered: list[tuple[int, Item]], file: str, fields: Fields) -> Batch:
    taken = [(number, item) for number, item in numbered if item.reason is None]
    contents: list = [item.content for _, item in taken]
    ids = [f"{file}:{number}" if item.id is None else item.id for number, item in taken]
    others: dict[str, Any] = {
        "ids": pa.array(ids, pa.string()),
        "rejected": [
            Rejected(file, "row", number, item.reason)
            for number, item in numbered
            if item.reason is not None
        ],
        "without_id": sum(item.id is None for _, item in taken),
    }
    if fields.form is not None:
        return Batch.of_answers(contents, **others)
    texts = fields.tokens is None
    content = Strings.of_texts(contents) if texts else Strings.of_ids(contents)
    return Batch(content=content, **others)
