"""Records as they are read: their fields, documents in batches, and rejected records."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from .answers import Form, Piece

__all__ = [
    "BLOCK_BYTES",
    "BadFileError",
    "Batch",
    "DamagedFileError",
    "Fields",
    "Pieces",
    "Rejected",
    "Strings",
    "has_unknown_id",
    "ids_by_number",
    "skippable",
]

BLOCK_BYTES = 8 << 20
"""Read at a time; a longer line or row is read whole."""


class BadFileError(ExactcptError):
    """A file that cannot be read to its end: truncated, corrupt, or not of its format."""


class DamagedFileError(BadFileError):
    """A file that was whole once, or may have been."""


@contextmanager
def skippable() -> Iterator[None]:
    """A block in which errors about damaged files say that the job can leave such files out."""
    try:
        yield
    except DamagedFileError as error:
        error.fix = (
            f"{error.fix}; with --on-bad-file skip the job goes on, and none of the file's records "
            "are in the result"
        )
        raise


@dataclass(frozen=True, kw_only=True)
class Fields:
    """The fields of a record that are read.

    Attributes:
        text: the field with the document as a string.
        id: the field with its id, a string or an integer.
        tokens: the field with the document as a list of token ids, instead of `text`.
        largest_id: the largest token id in the vocabulary.
        end_id: the token that ends documents; a stream of ids without boundaries is cut after it.
        max_bytes: the bytes that a record may have: a line, a file of text, a value of a column.
        boundaries: the column with the boundaries inside the rows of `tokens`, where these are
            packed windows.
        labels: the column with the labels of packed windows: the ids that are targets.
        form: the fields with a prompt and its answer, instead of `text`.
    """

    text: str = "text"
    id: str = "id"
    tokens: str | None = None
    largest_id: int = (1 << 31) - 1
    end_id: int | None = None
    max_bytes: int = (1 << 31) - 1
    boundaries: str | None = None
    labels: str | None = None
    form: Form | None = None

    @property
    def names_id(self) -> bool:
        """Whether the id's field was asked for; one named `id` is taken where there is one."""
        return self.id != Fields.id

    @property
    def content(self) -> str:
        """The field that holds the document."""
        return self.tokens if self.tokens is not None else self.text

    @property
    def of_document(self) -> tuple[str, ...]:
        """The fields that hold the document; several, if it has an answer."""
        return self.form.fields if self.form is not None else (self.content,)

    @property
    def unknown_id(self) -> str:
        """Why a document with an id outside the vocabulary is rejected."""
        return f"field {self.tokens!r} has an id outside 0..{self.largest_id}"


class Rejected(NamedTuple):
    """A record that could not be used; `at` is its line or row in the file, counted from 1."""

    file: str
    unit: Literal["line", "row"]
    at: int
    reason: str


@dataclass(frozen=True)
class Strings:
    """Values of varying length in one buffer, as Arrow lays them out.

    Attributes:
        offsets: value i is data[offsets[i]:offsets[i + 1]]; int64, shape [n + 1], ascending.
        data: uint8 for UTF-8 text, int32 for token ids.
    """

    offsets: NDArray[np.int64]
    data: NDArray[Any]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each value, shape [n]."""
        return np.diff(self.offsets)

    @property
    def nbytes(self) -> int:
        """Bytes of all values; the buffer they are in may have more."""
        return int(self.offsets[-1] - self.offsets[0]) * self.data.itemsize

    @classmethod
    def of_texts(cls, texts: Sequence[bytes]) -> "Strings":
        """Joins UTF-8 texts."""
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        return cls(ends, np.frombuffer(b"".join(texts), np.uint8))

    @classmethod
    def of_ids(cls, documents: Sequence[Sequence[int]]) -> "Strings":
        """Joins lists of token ids."""
        ends = np.cumsum([0, *map(len, documents)], dtype=np.int64)
        return cls(ends, np.array([i for document in documents for i in document], np.int32))

    @classmethod
    def of_arrow(cls, array: pa.Array) -> "Strings":
        """Views an Arrow array of strings or lists of integers, without a copy where possible."""
        if not len(array):
            is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
            return cls(np.zeros(1, np.int64), np.empty(0, np.int32 if is_list else np.uint8))
        if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
            wide = np.int64 if pa.types.is_large_string(array.type) else np.int32
            buffers: list[Any] = array.buffers()
            _, offsets, data = buffers
            ends = np.frombuffer(offsets, wide)[array.offset : array.offset + len(array) + 1]
            values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        else:
            lists: Any = array
            ends, values = np.asarray(lists.offsets), np.asarray(lists.values)
        # A slice of an array has the buffers of all of it.
        data = values[ends[0] : ends[-1]]
        return cls(
            ends.astype(np.int64) - ends[0],
            data if data.dtype == np.uint8 else data.astype(np.int32, copy=False),
        )

    @classmethod
    def join(cls, several: Sequence["Strings"]) -> "Strings":
        """Concatenates one or more of the same kind."""
        ends = np.cumsum(np.concatenate([each.lengths for each in several]))
        return cls(
            np.concatenate(([0], ends)),
            np.concatenate([each.data[each.offsets[0] : each.offsets[-1]] for each in several]),
        )

    def select(self, keep: NDArray[np.bool_]) -> "Strings":
        """Only the values where `keep` is true."""
        if keep.all():
            return self
        lengths = self.lengths
        return Strings(
            np.concatenate(([0], np.cumsum(lengths[keep]))),
            self.data[self.offsets[0] : self.offsets[-1]][np.repeat(keep, lengths)],
        )

    def __getitem__(self, index: int) -> NDArray[Any]:
        return self.data[self.offsets[index] : self.offsets[index + 1]]


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """How the texts of documents are divided; the pieces of a document make up its text.

    Attributes:
        bounds: document i has the pieces bounds[i]:bounds[i + 1]; int64, shape [documents + 1].
        lengths: of the pieces, in bytes; int64, shape [pieces].
        supervised: whether the tokens of each are to be learnt; shape [pieces].
    """

    bounds: NDArray[np.int64]
    lengths: NDArray[np.int64]
    supervised: NDArray[np.bool_]

    @classmethod
    def of(cls, documents: Sequence[Sequence[Piece]]) -> "Pieces":
        """Those of documents."""
        pieces = [piece for document in documents for piece in document]
        return cls(
            bounds=np.cumsum([0, *map(len, documents)], dtype=np.int64),
            lengths=np.array([len(text) for text, _ in pieces], np.int64),
            supervised=np.array([supervised for _, supervised in pieces], bool),
        )

    @classmethod
    def join(cls, several: Sequence["Pieces"]) -> "Pieces":
        """Concatenates one or more."""
        counts = np.concatenate([np.diff(each.bounds) for each in several])
        return cls(
            bounds=np.concatenate(([0], np.cumsum(counts))),
            lengths=np.concatenate([each.lengths for each in several]),
            supervised=np.concatenate([each.supervised for each in several]),
        )

    def texts(self, content: Strings) -> Strings:
        """The pieces one by one, given the texts of their documents."""
        ends = content.offsets[0] + np.cumsum(self.lengths)
        return Strings(np.concatenate((content.offsets[:1], ends)), content.data)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records that were read together.

    Attributes:
        ids: strings, one per document.
        content: texts or token ids, one value per document.
        rejected: the records that are not documents.
        without_id: how many documents have no id of their own, but the number of their record.
        boundaries, labels: of packed windows, one list of integers per row, as they are.
        pieces: of texts with answers, how they are divided.
    """

    ids: pa.Array
    content: Strings
    rejected: list[Rejected] = field(default_factory=list)
    without_id: int = 0
    boundaries: Strings | None = None
    labels: Strings | None = None
    pieces: Pieces | None = None

    @classmethod
    def of_answers(cls, documents: Sequence[Sequence[Piece]], **others: Any) -> "Batch":
        """A batch of documents in pieces; `others` are its other attributes."""
        texts = [b"".join(text for text, _ in document) for document in documents]
        return cls(content=Strings.of_texts(texts), pieces=Pieces.of(documents), **others)

    @classmethod
    def join(cls, several: Sequence["Batch"]) -> "Batch":
        """Concatenates one or more batches of one source."""
        pieces = [each.pieces for each in several if each.pieces is not None]
        return cls(
            ids=pa.concat_arrays([each.ids.cast(pa.string()) for each in several]),
            content=Strings.join([each.content for each in several]),
            rejected=[record for each in several for record in each.rejected],
            without_id=sum(each.without_id for each in several),
            pieces=Pieces.join(pieces) if pieces else None,
        )


def too_long(file: str, which: str, fields: Fields) -> ExactcptError:
    """The error about a record that is longer than allowed; `which` is its line or row."""
    return ExactcptError(
        f"a record has more than {fields.max_bytes:,} bytes",
        where=f"{file}, {which}",
        expected="records of at most --max-record-bytes",
        fix="see whether the file lacks line ends or holds something else; if it is a document, "
        "divide it, or set a larger --max-record-bytes (reading it takes about nine times its "
        "size in memory)",
    )


def ids_by_number(file: str, first: int, count: int) -> pa.Array:
    """Ids for `count` records that have none: file:line or file:row, from `first`."""
    numbers = pa.array(np.arange(first, first + count)).cast(pa.string())
    pieces: tuple[Any, ...] = (file, numbers, ":")
    return pc.binary_join_element_wise(*pieces)


def has_unknown_id(ids: NDArray[np.integer], fields: Fields) -> bool:
    """Whether any token id is outside the vocabulary."""
    if not len(ids):
        return False
    unsigned = ids.view(f"u{ids.itemsize}")  # a negative id is larger than any other
    return int(unsigned.max()) > fields.largest_id
