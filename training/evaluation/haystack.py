"""The text that facts are hidden in: documents that no run was trained on, as one stream of tokens.

A shard set gives its validation documents. They are read by the format alone: the segments of
windows, joined by `doc_index` and `doc_offset`, without what tokenization added at their ends. A
text file is one document; a JSON Lines file has one per line, in the field `text`.

    stream = document | \\n\\n | document | \\n\\n | ...
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ...schemas import shard
from ...schemas.errors import FormatError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.mapped import UNREADABLE, damaged
from ...schemas.regular import read_regular
from ...schemas.shard_set import ShardSet
from ...schemas.sizes import plural
from ...schemas.windows import open_shard, segments_of, tokens_of
from .draws import Draws
from .repeats import Repeats, repeats_of
from .vocabulary import Vocabulary

__all__ = ["Haystack", "of_file", "of_shards", "stream_of"]

Ids = NDArray[np.int32]

BETWEEN = "\n\n"
"""Stands between two documents."""

FIELD = "text"
SUFFIXES = (".txt", ".jsonl")


@dataclass(frozen=True, kw_only=True)
class Haystack:
    """A stream of tokens to take filler from.

    Attributes:
        name: where it is from, for errors.
        ids: the stream, int32.
        spans: where every document begins and ends in it, int64 [documents, 2].
        bos: the token that begins every document, or none.
        digest: xxh3-128 of the stream and `bos`.
    """

    name: str
    ids: Ids
    spans: NDArray[np.int64]
    bos: tuple[int, ...]
    digest: str

    @cached_property
    def repeats(self) -> Repeats:
        """The sequences of tokens that its documents have exactly twice."""
        return repeats_of(self.ids, self.spans)

    def check_holds(self, count: int) -> None:
        """Checks that there is enough text for the longest items.

        Raises:
            UsageError: there are fewer than `count` tokens.
        """
        if len(self.ids) < count:
            raise UsageError(
                f"the haystack has {plural(len(self.ids), 'token')}",
                where=self.name,
                expected=f"at least {count:,}, the length of the longest items",
                fix="name a larger one with --haystack, or give shorter --lengths",
            )

    def filler(self, draws: Draws, count: int) -> Ids:
        """Consecutive tokens from a drawn place, int32 [count]; there must be as many."""
        start = draws.below(len(self.ids) - count + 1)
        return self.ids[start : start + count]


def stream_of(
    name: str,
    documents: Sequence[Sequence[int] | Ids],
    between: Sequence[int],
    bos: tuple[int, ...] = (),
) -> Haystack:
    """Joins documents into a haystack; all are token ids without special tokens."""
    gap = np.array(between, np.int32)
    parts = [part for each in documents for part in (np.asarray(each, np.int32), gap)][:-1]
    ids = np.concatenate(parts) if parts else np.empty(0, np.int32)
    stops = np.cumsum([len(each) + len(gap) for each in documents], dtype=np.int64) - len(gap)
    spans = np.stack([stops - [len(each) for each in documents], stops], axis=1)
    found = xxhash.xxh3_128(np.array(bos, "<i4").tobytes() + b"|")
    found.update(ids.astype("<i4").tobytes())
    return Haystack(name=name, ids=ids, spans=spans, bos=bos, digest=found.hexdigest())


def of_shards(shards: ShardSet, vocabulary: Vocabulary) -> Haystack:
    """The validation documents of a shard set.

    Raises:
        UsageError: there are none.
        FormatError: a shard cannot be read, or its documents do not join.
    """
    if not shards.shards(shard.VALIDATION):
        raise UsageError(
            "the shard set has no validation documents",
            where=str(shards.root),
            fix="name a text file or another shard set with --haystack",
        )
    special = shards.manifest["tokenizer"]
    bos = () if special["bos_id"] is None else (special["bos_id"],)
    documents = [
        _without_ends(ids, special["bos_id"], special["eos_id"])
        for ids in _validation_documents(shards)
    ]
    return stream_of(str(shards.root), documents, vocabulary.piece(BETWEEN), bos)


def _without_ends(ids: Ids, bos: int | None, eos: int) -> Ids:
    start = int(bos is not None and len(ids) > 0 and ids[0] == bos)
    stop = len(ids) - int(len(ids) > start and ids[-1] == eos)
    return ids[start:stop]


def _validation_documents(shards: ShardSet) -> list[Ids]:
    """The documents, each whole, in the order of their numbers."""
    pieces: dict[int, dict[int, Ids]] = {}
    for document, offset, ids in _segments(shards):
        pieces.setdefault(document, {})[offset] = ids
    joined: list[Ids] = []
    for document in sorted(pieces):
        offsets = sorted(pieces[document])
        ids = np.concatenate([pieces[document][offset] for offset in offsets])
        lengths = [len(pieces[document][offset]) for offset in offsets]
        if offsets != [0, *np.cumsum(lengths)[:-1].tolist()]:
            raise FormatError(
                f"the segments of document {document:,} do not join",
                where=str(shards.root / shard.VALIDATION),
                fix="see `exactcpt verify`, then write the shards again",
            )
        joined.append(ids)
    return joined


def _segments(shards: ShardSet) -> Iterator[tuple[int, int, Ids]]:
    """Yields document, offset and ids of every validation segment, padding left out."""
    weights = shards.dictionary(shard.VALIDATION)
    for entry in shards.shards(shard.VALIDATION):
        path = shards.root / entry["path"]
        try:
            with pa.memory_map(str(path)) as source:
                reader = open_shard(source, shards.window, spans=shards.has_spans)
                for i in range(reader.num_record_batches):
                    yield from _of_batch(reader.get_batch(i), shards, weights)
        except UNREADABLE as error:
            raise damaged(path, error) from None


def _of_batch(
    batch: pa.RecordBatch, shards: ShardSet, weights: NDArray[np.float32]
) -> Iterator[tuple[int, int, Ids]]:
    segments = segments_of(batch, shards.window)
    ids = tokens_of(batch, shards.window, weights)[0].ravel()
    if ids.size and not 0 <= ids.min() <= ids.max() <= shards.largest_id:
        raise ValueError(f"it has token ids that are not from 0 to {shards.largest_id:,}")
    stops = np.cumsum(segments.length, dtype=np.int64)
    rows = (segments.document, segments.offset, stops - segments.length, stops)
    for document, offset, start, stop in zip(*(row.tolist() for row in rows), strict=True):
        if document != shard.PADDING:
            yield document, offset, ids[start:stop]


def of_file(path: Path, vocabulary: Vocabulary) -> Haystack:
    """The documents of a text or JSON Lines file.

    Args:
        path: a file named *.txt, or *.jsonl with a text in the field `text` of every line.
        vocabulary: gives the ids of a text, and tells which token begins every document, if any.

    Raises:
        UsageError: there is no such file, or its name says nothing about its format.
        FormatError: the file is not UTF-8, or a line is not an object with a text.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"the haystack has no known format: {path}",
            expected="a shard set, or a file named *.txt or *.jsonl",
        )
    try:
        text = read_regular(path).decode()
    except OSError as error:
        raise UsageError(
            f"the haystack cannot be read: {error.strerror}", where=str(path)
        ) from None
    except UnicodeDecodeError as error:
        raise FormatError(f"the haystack is not UTF-8: {error}", where=str(path)) from None
    texts = [text] if path.suffix == ".txt" else list(_texts(text, path))
    documents = vocabulary.encode_all(texts)
    bos = _bos(vocabulary.tokenizer)
    return stream_of(str(path), documents, vocabulary.piece(BETWEEN), bos)


def _texts(text: str, path: Path) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = parse_json(line.encode())
        except ValueError:
            found = None
        value = found.get(FIELD) if isinstance(found, dict) else None
        if not isinstance(value, str):
            raise FormatError(
                "the line has no text",
                where=f"{path}, line {number:,}",
                expected=f'an object with a string in "{FIELD}"',
            )
        yield value


def _bos(tokenizer: Tokenizer) -> tuple[int, ...]:
    """The token that the tokenizer itself puts before a text, or none."""
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    return tuple(full[:1]) if full[1 : 1 + len(plain)] == plain and full != plain else ()
