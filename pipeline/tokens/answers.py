"""Documents with answers, as tokens: each piece is encoded by itself, and the ids are joined.

    pieces      Who wrote it?\\nAnswer:   |   Mary Shelley
    tokens      [bos]  3  9  4  17  2     |   8  11  [eos]
    span                                      6 ..   9

So the ids before an answer are those of the prompt alone, which is what a model is given that is
asked, and boundaries need no offsets of characters, which only one of the two encoders has.

Tokenizers that were SentencePiece models put a space before every text they are given, so also
before a piece that goes on. Such a piece is encoded behind another text, a seam, whose tokens are
then left out. Each piece decides on its own: its ids do not depend on other documents.
"""

import numpy as np
from numpy.typing import NDArray

from ..core.spans import Spans
from ..sources.records import Pieces, Strings
from .encoders import Encoder, UnencodableTextError

__all__ = ["encode_pieces", "ids_of_documents", "spans_of_documents", "spans_with_ends"]

SEAMS = (b"\n", b".", b"a")
"""What may stand before a piece that goes on; the first whose tokens have nothing of the piece."""


def encode_pieces(
    encoder: Encoder, texts: Strings, pieces: Pieces, unk_id: int | None = None
) -> Strings:
    """The ids of each piece, without a space that its text does not have.

    Args:
        encoder: encodes them.
        texts: of the pieces.
        pieces: how the documents are divided.
        unk_id: the id for what the vocabulary lacks. One may stand for a seam and what follows.

    Raises:
        UnencodableTextError: the tokenizer fails on a piece.
    """
    alone = encoder.encode(texts)
    if not _puts_spaces(encoder):
        return alone
    ids = [alone[i] for i in range(len(alone))]
    goes_on = np.ones(len(texts), bool)
    goes_on[pieces.bounds[:-1]] = False  # a document has at least one piece
    left = np.flatnonzero(goes_on).tolist()
    for seam in SEAMS:
        before = _ids(encoder, seam) if left else None
        if before is None or unk_id in before:
            continue
        joined: list[int] = []
        for i, behind in zip(left, _behind(seam, encoder, texts, left), strict=True):
            if behind is not None and behind[: len(before)].tolist() == before:
                ids[i] = behind[len(before) :]
            else:
                joined.append(i)
        left = joined
    ends = np.cumsum([0, *map(len, ids)], dtype=np.int64)
    return Strings(ends, np.concatenate(ids) if ids else np.empty(0, np.int32))


def _puts_spaces(encoder: Encoder) -> bool:
    """Whether words are joined by a space if each is encoded alone."""
    both, one, other = (_ids(encoder, text) for text in (b"a b", b"a", b"b"))
    return one is not None and other is not None and both == one + other


def _behind(
    seam: bytes, encoder: Encoder, texts: Strings, which: list[int]
) -> list[NDArray[np.int32] | None]:
    """The ids of some texts behind a seam; None where the tokenizer fails on that."""
    joined = [seam + texts[i].tobytes() for i in which]
    try:
        ids = encoder.encode(Strings.of_texts(joined))
    except UnencodableTextError:  # one by one, so that the others do not depend on it
        each = [_ids(encoder, text) for text in joined]
        return [None if one is None else np.array(one, np.int32) for one in each]
    return [ids[at] for at in range(len(ids))]


def _ids(encoder: Encoder, text: bytes) -> list[int] | None:
    """The ids of a text; None if the tokenizer fails on it."""
    try:
        return encoder.encode(Strings.of_texts([text]))[0].tolist()
    except UnencodableTextError:
        return None


def ids_of_documents(ids: Strings, pieces: Pieces) -> Strings:
    """The ids of documents from those of their pieces, in the same buffer."""
    return Strings(ids.offsets[pieces.bounds], ids.data)


def spans_of_documents(ids: Strings, pieces: Pieces) -> Spans:
    """The supervised spans of documents, before BOS and EOS are added.

    Args:
        ids: of the pieces.
        pieces: how the documents are divided; the last piece of each is an answer. Pieces without
            tokens have no span, and two between which there is no token are one. A document whose
            last answer has no tokens has no spans: its end token would follow a question.
    """
    counts = np.diff(pieces.bounds)
    document = np.repeat(np.arange(len(counts)), counts)
    is_answered = ids.lengths[pieces.bounds[1:] - 1] > 0
    used = pieces.supervised & (ids.lengths > 0) & is_answered[document]
    start, stop = ids.offsets[:-1][used], ids.offsets[1:][used]
    mine = document[used]
    new = np.ones(len(mine), bool)
    new[1:] = (mine[1:] != mine[:-1]) | (start[1:] != stop[:-1])
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(mine))[: len(first)] - 1
    mine, begin = mine[first], ids.offsets[pieces.bounds[:-1]]
    bounds = np.concatenate(([0], np.cumsum(np.bincount(mine, minlength=len(counts)))))
    return Spans(bounds, _from(start[first], begin[mine]), _from(stop[last], begin[mine]))


def spans_with_ends(spans: Spans, begins: NDArray[np.bool_], lengths: NDArray[np.int64]) -> Spans:
    """The spans of documents to which BOS and EOS were added; the last one of each has its EOS.

    Args:
        spans: those before, at least one of each document.
        begins: whether BOS was added to a document.
        lengths: of the documents now.
    """
    shift = np.repeat(begins, np.diff(spans.bounds)).astype(np.int32)
    stop = spans.stop + shift
    stop[spans.bounds[1:] - 1] = lengths
    return Spans(spans.bounds, spans.start + shift, stop)


def _from(at: NDArray[np.int64], begin: NDArray[np.int64]) -> NDArray[np.int32]:
    return (at - begin).astype(np.int32)
