"""Encodes documents, and says which of them cannot be encoded."""

import numpy as np

from ...schemas.errors import ExactcptError
from ..core.spans import Spans
from ..sources.records import Batch, Strings
from .answers import encode_pieces, ids_of_documents, spans_of_documents
from .encoders import Encoder, UnencodableTextError
from .tokenizer import TokenizerSpec

__all__ = ["encode_answers", "encode_documents", "unencodable"]


def encode_documents(encoder: Encoder, batch: Batch, source: str, spec: TokenizerSpec) -> Strings:
    """The token ids of the texts of a batch, int32.

    Args:
        encoder: encodes them.
        batch: texts and their ids.
        source: where they come from.
        spec: the tokenizer.

    Raises:
        ExactcptError: the tokenizer fails on a text, or a text becomes a token that begins or ends
            documents although special tokens in a text are ordinary text.
    """
    return encode_answers(encoder, batch, source, spec)[0]


def encode_answers(
    encoder: Encoder, batch: Batch, source: str, spec: TokenizerSpec
) -> tuple[Strings, Spans | None]:
    """As `encode_documents`, and the supervised spans if the documents have answers."""
    pieces = batch.pieces
    try:
        if pieces is None:
            ids = encoder.encode(batch.content)
        else:
            texts = pieces.texts(batch.content)
            ids = encode_pieces(encoder, texts, pieces, spec.unk_id)
    except UnencodableTextError as error:
        at = error.at
        if pieces is not None:
            at = int(np.searchsorted(pieces.bounds, at, "right")) - 1
        raise unencodable(error, _name(batch, at, source), spec.url) from None
    spans = None
    if pieces is not None:
        ids, spans = ids_of_documents(ids, pieces), spans_of_documents(ids, pieces)
    if not spec.special_tokens_in_text and _may_have(ids, spec):
        _refuse(ids, spec.eos_id, "ends", batch, source)
        if spec.bos_id is not None:
            _refuse(ids, spec.bos_id, "begins", batch, source)
    return ids, spans


def unencodable(error: UnencodableTextError, document: str, tokenizer: str) -> ExactcptError:
    """The error for a document on which the tokenizer fails.

    Args:
        error: what happened.
        document: which document, in words.
        tokenizer: where the tokenizer is.
    """
    return ExactcptError(
        f"the tokenizer fails on a text: {error}",
        where=f"{document}; tokenizer {tokenizer}",
        expected="a tokenizer that can encode any text",
        fix="take a tokenizer of bytes, or one with an unknown token; if the text is to blame, "
        "correct it",
    )


def _may_have(ids: Strings, spec: TokenizerSpec) -> bool:
    """Whether some id may be a boundary: mostly these are above or below all others."""
    boundaries = [i for i in (spec.bos_id, spec.eos_id) if i is not None]
    found = ids.data
    return len(found) > 0 and found.max() >= min(boundaries) and found.min() <= max(boundaries)


def _refuse(ids: Strings, boundary: int, does: str, batch: Batch, source: str) -> None:
    """Refuses a text that has become a boundary between documents."""
    found = ids.data == boundary
    if not found.any():
        return
    at = int(np.searchsorted(ids.offsets, ids.offsets[0] + found.argmax(), "right")) - 1
    raise ExactcptError(
        f"a text becomes token {boundary}, which {does} documents",
        where=_name(batch, at, source),
        expected="no such token inside a document; the tokenizer gives it for some text, or for "
        "what its vocabulary lacks",
        fix="name another token with --eos-token, or leave it out with --no-bos if it begins "
        "documents; --special-tokens-in-text allow accepts such texts as they are",
    )


def _name(batch: Batch, at: int, source: str) -> str:
    return f"document {batch.ids[at].as_py()!r} of source {source!r}"
