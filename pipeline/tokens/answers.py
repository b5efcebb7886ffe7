"""Documents with answers, as tokens: each piece is encoded by itself, and the ids are joined.

    pieces      Who wrote it?\\nAnswer:   |   Mary Shelley
    tokens      [bos]  3  9  4  17  2     |   8  11  [eos]
    span                                      6 ..   9

So the ids before an answer are those of the prompt alone, which is what a model is given that is
asked, and boundaries need no offsets of characters, which only one of the two encoders has.

Tokenizers that were SentencePiece models put a space before every text they are given, so also
before a piece that goes on. Such a piece is encoded behind a line break, which is then left out.
"""

import numpy as np
from numpy.typing import NDArray

from ..core.spans import Spans
from ..sources.records import Pieces, Strings
from .encoders import Encoder

__all__ = ["encode_pieces", "ids_of_documents", "spans_of_documents", "spans_with_ends"]

SEAM = b"\n"
"""What stands before a piece that goes on. Hardly any token has both it and what follows."""


def encode_pieces(encoder: Encoder, texts: Strings, pieces: Pieces) -> Strings:
    """The ids of each piece, without a space that its text does not have.

    Args:
        encoder: encodes them.
        texts: of the pieces.
        pieces: how the documents are divided.

    Raises:
        UnencodableTextError: the tokenizer fails on a piece.
    """
    if not _puts_spaces(encoder):
        return encoder.encode(texts)
    goes_on = np.ones(len(texts), bool)
    goes_on[pieces.bounds[:-1]] = False  # a document has at least one piece
    behind = Strings.join([encoder.encode(_behind_seam(texts, goes_on))])
    seam = _ids(encoder, SEAM)
    place = np.arange(len(behind.data)) - np.repeat(behind.offsets[:-1], behind.lengths)
    of_seam = np.repeat(goes_on, behind.lengths) & (place < len(seam))
    if behind.data[of_seam].tolist() != seam * int(goes_on.sum()):
        return encoder.encode(texts)
    lengths = behind.lengths - len(seam) * goes_on
    return Strings(np.concatenate(([0], np.cumsum(lengths))), behind.data[~of_seam])


def _puts_spaces(encoder: Encoder) -> bool:
    """Whether words are joined by a space if each is encoded alone."""
    return _ids(encoder, b"a b") == _ids(encoder, b"a") + _ids(encoder, b"b")


def _ids(encoder: Encoder, text: bytes) -> list[int]:
    return encoder.encode(Strings.of_texts([text]))[0].tolist()


def _behind_seam(texts: Strings, which: NDArray[np.bool_]) -> Strings:
    """The texts, some of them behind a seam."""
    data = texts.data[texts.offsets[0] : texts.offsets[-1]]
    before = texts.offsets[:-1][which] - texts.offsets[0]
    lengths = texts.lengths + len(SEAM) * which
    ends = np.concatenate(([0], np.cumsum(lengths)))
    return Strings(ends, np.insert(data, before, np.frombuffer(SEAM, np.uint8)[0]))


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
