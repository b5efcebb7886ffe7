"""One part of a token store: tokenizes its documents and writes its files.

These are the documents, their index, the rejected records and, last, the summary, which says that
the part is complete.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas import store as store_format
from ...schemas.errors import ExactcptError
from ...schemas.manifest import PartFile
from ..core.spans import Spans
from ..files.arrow import span_lists, write_batches
from ..files.json_files import read_json, require_keys, write_json
from ..files.storage import Folder
from ..sources.records import Batch, Rejected, Strings
from .answers import spans_with_ends
from .documents import encode_answers
from .encoders import Encoder, assemble, begins_bare
from .fidelity import Fidelity
from .hashes import content_hashes, hash_prefixes
from .parity import PART_BYTES, compare_backends, sample
from .task import TokenizeTask

__all__ = ["PartBuilder", "Summary", "read_summary"]

MAX_DOCUMENT_TOKENS = (1 << 31) - 1
"""The index has lengths as int32."""
DROPPED = ("empty", "short", "answer without tokens")
"""Why documents are left out that were read."""
Summary = dict[str, Any]
"""Counts and file checksums of a part, as JSON; the manifest is made from all summaries."""
KEYS = (
    "part",
    "source",
    "members",
    "last",
    "documents",
    "tokens",
    "text_bytes",
    "rejected",
    "first_rejected",
    "dropped",
    "backend",
)
FILES = ("file", "index")
"""Keys of a summary, those of its files only if the part has documents."""


def read_summary(store: Folder, name: str) -> Summary:
    """Reads a summary from its file.

    Raises:
        FormatError: it is damaged.
    """
    summary = read_json(store, name, KEYS)
    require_keys(summary, FILES if summary["documents"] else (), store.url_of(name))
    return summary


@dataclass
class PartBuilder:
    """Collects the documents of one part and writes it.

    Attributes:
        source: the source of all its documents.
        task: how to tokenize.
        encoder: encodes the texts.
        reference: encodes a sample of them too, to compare; None if nothing is compared.
        ids: of the documents, one array per batch.
        tokens: of the documents, with BOS and EOS.
        hashes: content hashes of the documents, 16 bytes each.
        spans: supervised spans of the documents, if the store has some.
        rejected: records that are not documents.
        dropped: documents left out, by reason.
        without_id: records whose id is their number, dropped documents included.
        text_bytes: text that was encoded, dropped documents included.
        fidelity: what the tokens do not say of the text.
        sample_left: bytes that may still be looked at closely.
    """

    source: str
    task: TokenizeTask
    encoder: Encoder
    reference: Encoder | None
    ids: list[pa.Array] = field(default_factory=list)
    tokens: list[Strings] = field(default_factory=list)
    hashes: list[NDArray[np.void]] = field(default_factory=list)
    spans: list[Spans] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DROPPED, 0))
    without_id: int = 0
    text_bytes: int = 0
    fidelity: Fidelity = field(default_factory=Fidelity)
    sample_left: int = PART_BYTES

    def add(self, batch: Batch) -> None:
        """Tokenizes a batch.

        Raises:
            BackendDifferenceError: encoder and reference differ on the batch's sample.
            ExactcptError: a document cannot be encoded.
        """
        self.rejected += batch.rejected
        self.without_id += batch.without_id
        hashes = content_hashes(batch.content)
        spec = self.task.tokenizer
        is_text = self.task.fields[self.source].tokens is None
        spans = None
        if is_text:
            self.text_bytes += batch.content.nbytes
            ids, spans = encode_answers(self.encoder, batch, self.source, spec)
            self._look_closer(batch, hashes)
        else:
            ids = batch.content
        tokens = assemble(ids, spec.bos_id, spec.eos_id)
        keep = self._drop(tokens.lengths - 1 - (spec.bos_id is not None), spans)
        self.ids.append(batch.ids.filter(pa.array(keep)) if not keep.all() else batch.ids)
        self.tokens.append(tokens.select(keep))
        ends_only = is_text and not spec.special_tokens_in_text
        self.fidelity.count(self.tokens[-1], spec, ends_only=ends_only)
        self.hashes.append(hashes[keep])
        if self.task.has_spans:
            lengths = self.tokens[-1].lengths
            if spans is None:
                self.spans.append(Spans.whole(lengths))
            else:
                begins = begins_bare(ids, spec.bos_id)[keep]
                self.spans.append(spans_with_ends(spans[keep], begins, lengths))

    def _look_closer(self, batch: Batch, hashes: NDArray[np.void]) -> None:
        """Compares encoders, and texts with their tokens, on the batch's share of the sample."""
        texts = batch.content
        if not len(texts):
            return
        if batch.pieces is not None:  # what is encoded are the pieces
            texts = batch.pieces.texts(texts)
            hashes = content_hashes(texts)
        share = PART_BYTES * texts.nbytes // max(1, self.task.split_bytes)
        size = min(self.sample_left, max(share, PART_BYTES // 8))
        drawn = sample(texts, hash_prefixes(hashes), size)
        self.sample_left -= len(drawn.data)
        if self.reference is None:
            ids = self.encoder.encode(drawn)
        else:
            ids = compare_backends(self.encoder, self.reference, drawn)
        self.fidelity.compare(drawn, ids, self.task.tokenizer)

    def _drop(self, lengths: NDArray[np.int64], spans: Spans | None) -> NDArray[np.bool_]:
        """Counts the documents that are too short, or have an answer without tokens.

        Returns which documents to keep.
        """
        empty, short = lengths <= 0, lengths < self.task.min_tokens
        self.dropped["empty"] += int(empty.sum())
        self.dropped["short"] += int((short & ~empty).sum())
        keep = ~(empty | short)
        if spans is not None:
            unanswered = np.diff(spans.bounds) == 0
            self.dropped["answer without tokens"] += int((keep & unanswered).sum())
            keep &= ~unanswered
        return keep

    def write(self, store: Folder, ordinal: str, *, members: int, last: bool) -> Summary:
        """Writes documents, index, rejected records, and the summary that completes the part.

        Args:
            store: the token store.
            ordinal: the part's name.
            members: how many files or ranges of files its split has.
            last: whether it is the last part of its split.

        Returns:
            The summary.

        Raises:
            ExactcptError: a document has more than MAX_DOCUMENT_TOKENS tokens.
        """
        documents = sum(map(len, self.tokens))
        summary: Summary = {
            "part": ordinal,
            "source": self.source,
            "members": members,
            "last": last,
            "documents": documents,
            "tokens": sum(len(tokens.data) for tokens in self.tokens),
            "without_id": self.without_id,
            "text_bytes": self.text_bytes,
            "rejected": _tally(record.reason for record in self.rejected),
            "first_rejected": [record._asdict() for record in self.rejected[:3]],
            "dropped": {reason: n for reason, n in self.dropped.items() if n},
            "backend": self.task.tokenizer.backend,
            "compared_bytes": PART_BYTES - self.sample_left if self.reference else 0,
            "encoding": self.fidelity.to_json(),
        }
        if documents:
            summary["file"] = self._write_documents(store, ordinal)
            summary["index"] = self._write_index(store, ordinal)
        if self.rejected:
            lines = [json.dumps(record._asdict(), ensure_ascii=False) for record in self.rejected]
            store.write(store_format.rejected_name(ordinal), ("\n".join(lines) + "\n").encode())
        write_json(store, store_format.summary_name(ordinal), summary)
        return summary

    def _write_documents(self, store: Folder, ordinal: str) -> PartFile:
        schema = store_format.part_schema(self.source)
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
        return write_batches(store, store_format.part_name(ordinal), schema, batches)

    def _write_index(self, store: Folder, ordinal: str) -> PartFile:
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
        if self.task.has_spans:
            spans = Spans.joined(self.spans)
            columns.append(span_lists(spans.bounds, spans.start, spans.stop))
        schema = store_format.index_schema(self.task.has_spans)
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        return write_batches(store, store_format.index_name(ordinal), schema, [batch])


def _tally(reasons: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in reasons:
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))
