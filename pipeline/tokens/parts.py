"""The token store: writing the parts of a split, and reading parts back.

A split of the input becomes one part, or several where it is compressed or larger than it seemed.
A part is written as documents, index, rejected records, and at last its summary: what has a summary
is complete and is kept when a job is run again. A summary of the other backend does not count, so
that a job which falls back never mixes the two.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as names
from ...schemas.errors import ExactcptError
from ..core.choices import Backend
from ..files.arrow import write_batches
from ..files.storage import Folder
from ..sources.reading import join_small, read_member
from ..sources.records import Batch, Fields, Rejected, Strings
from ..sources.splits import Split
from .backend import kept_choice
from .encoders import Encoder, assemble, borrow_encoder
from .parity import SAMPLE_BYTES, compare_backends, sample
from .store import content_hashes, hash_prefixes
from .tokenizer import TokenizerSpec

__all__ = ["MAX_DOCUMENT_TOKENS", "TokenizeTask", "tokenize_split"]

MAX_DOCUMENT_TOKENS = (1 << 31) - 1
Summary = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TokenizeTask:
    """What all splits of a job have in common.

    Attributes:
        store: the token store's path or URL.
        tokenizer: how to tokenize.
        check: whether samples are compared with the reference backend.
        fields: of each source.
        min_tokens: shorter documents are dropped; BOS and EOS do not count.
        split_bytes: text of a part, where a split yields several.
        skip_bad_files: whether a truncated or corrupt file is left out, or ends the job.
    """

    store: str
    tokenizer: TokenizerSpec
    check: bool
    fields: Mapping[str, Fields]
    min_tokens: int
    split_bytes: int
    skip_bad_files: bool


def tokenize_split(
    split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]
) -> None:
    """Writes the parts of a split that are not there yet.

    Args:
        split: what to read.
        task: how.
        newlines: by URL, the newlines that precede each byte offset at which a member begins.

    Raises:
        BadFileError: an input file is truncated or corrupt. Parts written before stay.
        BackendDifferenceError: gigatoken and the reference differ.
    """
    store = Folder(task.store)
    backend = task.tokenizer.backend
    if _is_complete(store, split, backend):
        return
    for piece, batches in enumerate(_pieces(_read(split, task, newlines), task.split_bytes)):
        ordinal = f"{split.ordinal:06d}-{piece:04d}"
        if _summary(store, ordinal, backend) is not None:
            for _ in batches:
                pass
            continue
        with _encoders(task) as (encoder, reference):
            builder = _PartBuilder(split.source, task, encoder, reference)
            for batch in join_small(batches):
                builder.add(batch)
        if _is_outdated(store, backend):
            return
        builder.write(store, ordinal, members=len(split.members), last=batches.is_last)


def _summary(store: Folder, ordinal: str, backend: Backend) -> Summary | None:
    """The summary of a complete part; None where there is none, or one of the other backend."""
    name = names.summary_name(ordinal)
    summary = json.loads(store.read(name)) if store.exists(name) else None
    return summary if summary and summary["backend"] == backend else None


def _is_outdated(store: Folder, backend: Backend) -> bool:
    """Whether the job has changed its backend, and this is a worker it could not stop."""
    kept = kept_choice(store)
    return kept is not None and kept[0] != backend


def _is_complete(store: Folder, split: Split, backend: Backend) -> bool:
    for piece in count():
        summary = _summary(store, f"{split.ordinal:06d}-{piece:04d}", backend)
        if summary is None:
            return False
        if summary["last"]:
            return True
    return False


def _read(
    split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]
) -> Iterator[Batch]:
    for member in split.members:
        before = newlines.get(member.file.url, {}).get(member.start, 0)
        yield from read_member(member, task.fields[split.source], before)


class _Piece:
    """The batches of one part; `is_last` is known once they are used up."""

    def __init__(self, batches: "_Lookahead", size: int) -> None:
        self._batches, self._size = batches, size
        self.is_last = False

    def __iter__(self) -> Iterator[Batch]:
        filled = 0
        while filled < self._size and self._batches.has_next:
            batch = self._batches.take()
            filled += _size(batch.content)
            yield batch
        self.is_last = not self._batches.has_next


class _Lookahead:
    """An iterator that knows whether there is more."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._next = next(batches, None)

    @property
    def has_next(self) -> bool:
        return self._next is not None

    def take(self) -> Batch:
        batch, self._next = self._next, None
        assert batch is not None
        self._next = next(self._batches, None)
        return batch


def _pieces(batches: Iterator[Batch], size: int) -> Iterator[_Piece]:
    """At least one piece, each of at least `size` bytes but for the last one."""
    ahead = _Lookahead(batches)
    while True:
        piece = _Piece(ahead, size)
        yield piece
        if not ahead.has_next:
            return


@contextmanager
def _encoders(task: TokenizeTask) -> Iterator[tuple[Encoder, Encoder | None]]:
    """The encoder, and the reference to compare it with where that is wanted."""
    with borrow_encoder(task.tokenizer) as encoder:
        if not task.check:
            yield encoder, None
            return
        with borrow_encoder(task.tokenizer, "tokenizers") as reference:
            yield encoder, reference


@dataclass
class _PartBuilder:
    """Collects the documents of one part and writes it."""

    source: str
    task: TokenizeTask
    encoder: Encoder
    reference: Encoder | None
    ids: list[Any] = field(default_factory=list)
    tokens: list[Strings] = field(default_factory=list)
    hashes: list[NDArray[np.void]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=lambda: {"empty": 0, "short": 0})
    text_bytes: int = 0
    sample_left: int = SAMPLE_BYTES

    def add(self, batch: Batch) -> None:
        """Tokenizes a batch."""
        self.rejected += batch.rejected
        hashes = content_hashes(batch.content)
        if self.task.fields[self.source].tokens is None:
            self.text_bytes += _size(batch.content)
            ids = self.encoder.encode(batch.content)
            self._compare(batch.content, hashes)
        else:
            ids = batch.content
        spec = self.task.tokenizer
        tokens = assemble(ids, spec.bos_id, spec.eos_id)
        keep = self._drop(tokens.lengths - 1 - (spec.bos_id is not None))
        self.ids.append(batch.ids.filter(pa.array(keep)) if not keep.all() else batch.ids)
        self.tokens.append(tokens.select(keep))
        self.hashes.append(hashes[keep])

    def _compare(self, texts: Strings, hashes: NDArray[np.void]) -> None:
        """Spends on the batch its proportion of the part's sample."""
        if self.reference is None or not len(texts):
            return
        share = SAMPLE_BYTES * _size(texts) // max(1, self.task.split_bytes)
        size = min(self.sample_left, max(share, SAMPLE_BYTES // 8))
        drawn = sample(texts, hash_prefixes(hashes), size)
        self.sample_left -= len(drawn.data)
        compare_backends(self.encoder, self.reference, drawn)

    def _drop(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Counts the documents that are too short, and returns which are not."""
        empty, short = lengths <= 0, lengths < self.task.min_tokens
        self.dropped["empty"] += int(empty.sum())
        self.dropped["short"] += int((short & ~empty).sum())
        return ~(empty | short)

    def write(self, store: Folder, ordinal: str, *, members: int, last: bool) -> None:
        """Writes documents, index, rejected records, and the summary that completes the part."""
        documents = sum(map(len, self.tokens))
        summary: Summary = {
            "part": ordinal,
            "source": self.source,
            "members": members,
            "last": last,
            "documents": documents,
            "tokens": sum(len(tokens.data) for tokens in self.tokens),
            "text_bytes": self.text_bytes,
            "rejected": _tally(record.reason for record in self.rejected),
            "first_rejected": [record._asdict() for record in self.rejected[:3]],
            "dropped": {reason: n for reason, n in self.dropped.items() if n},
            "backend": self.task.tokenizer.backend,
            "compared_bytes": SAMPLE_BYTES - self.sample_left,
        }
        if documents:
            summary["file"] = self._write_documents(store, ordinal)
            summary["index"] = self._write_index(store, ordinal)
        if self.rejected:
            lines = [json.dumps(record._asdict(), ensure_ascii=False) for record in self.rejected]
            store.write(names.rejected_name(ordinal), ("\n".join(lines) + "\n").encode())
        store.write(names.summary_name(ordinal), json.dumps(summary, ensure_ascii=False).encode())

    def _write_documents(self, store: Folder, ordinal: str) -> Any:
        schema = names.part_schema(self.source)
        list_type = schema.field("tokens").type
        arrays: Any = pa.LargeListArray
        batches = [
            pa.RecordBatch.from_arrays(
                [
                    ids.cast(pa.string()),
                    arrays.from_arrays(
                        pa.array(tokens.offsets), pa.array(tokens.data), type=list_type
                    ),
                ],
                schema=schema,
            )
            for ids, tokens in zip(self.ids, self.tokens, strict=True)
            if len(tokens)
        ]
        return write_batches(store, names.part_name(ordinal), schema, batches)

    def _write_index(self, store: Folder, ordinal: str) -> Any:
        lengths = np.concatenate([tokens.lengths for tokens in self.tokens])
        if int(lengths.max()) > MAX_DOCUMENT_TOKENS:
            raise ExactcptError(
                f"a document has {int(lengths.max()):,} tokens",
                where=f"part {ordinal} of source {self.source!r}",
                expected=f"at most {MAX_DOCUMENT_TOKENS:,}",
                fix="split the document",
            )
        hashes = np.concatenate(self.hashes)
        columns = [
            pa.array(lengths.astype(np.int32)),
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(16), len(hashes), [None, pa.py_buffer(hashes.tobytes())]
            ),
            pa.array(np.arange(len(lengths), dtype=np.int32)),
        ]
        schema = names.index_schema()
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        return write_batches(store, names.index_name(ordinal), schema, [batch])


def _size(content: Strings) -> int:
    """Bytes of the values; the buffer they are in may have more."""
    return int(content.offsets[-1] - content.offsets[0]) * content.data.itemsize


def _tally(reasons: Iterator[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))
