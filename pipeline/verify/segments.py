"""Whether segments agree with their documents, and cover every document.

Segments of all shards are gathered. A segment that is a whole document is only counted. The others
are pieces: they cover a document the right number of times if as many begin as end at every token,
except at its first token and its end.
"""

from dataclasses import dataclass, field

import numpy as np

from ...schemas import shard
from ...schemas.manifest import Manifest
from ...schemas.sizes import plural
from .arrays import Array
from .documents import Documents, DocumentsOf
from .report import Problems, Words
from .windows import Windows

__all__ = ["Coverage", "Seen", "Segments"]


NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True)
class Seen:
    """The segments of some windows, for the coverage of the documents.

    Attributes:
        whole: int64[2, documents], those with whole segments, and how many each has.
        pieces: int64[3, pieces], document, offset and length of all other segments.
    """

    whole: Array = field(default_factory=lambda: np.empty((2, 0), np.int64))
    pieces: Array = field(default_factory=lambda: np.empty((3, 0), np.int64))


class Segments:
    """Checks segments against their documents, one batch of windows after the other."""

    def __init__(self, manifest: Manifest, problems: Problems) -> None:
        self._problems = problems
        self._eos: int = manifest["tokenizer"]["eos_id"]
        self._best_fit = manifest["settings"]["packing"] == "best_fit"
        self._may_be_cut = manifest["settings"]["packing"] == shard.GIVEN
        self._whole: list[Array] = [NOTHING]
        self._pieces: list[Array] = [np.empty((3, 0), np.int64)]

    def add(self, w: Windows, documents: DocumentsOf, split: str) -> int:
        """Checks and gathers the segments of a batch; returns how many begin a split document.

        Args:
            w: the windows.
            documents: of each segment that is no padding.
            split: the windows' split.
        """
        segment = np.flatnonzero(w.doc != shard.PADDING)
        doc, offset, length, end = (a[segment] for a in (w.doc, w.offset, w.length, w.end))
        n_tokens, window = documents.n_tokens, w.tokens.shape[1]
        piece = (offset != 0) | (length != n_tokens)
        self._whole.append(doc[~piece])
        self._pieces.append(np.stack((doc[piece], offset[piece], length[piece])).astype(np.int64))

        def rule(check: str, broken: Array, found: Words, expected: str) -> None:
            def where(i: int) -> str:
                return w.where_segment(segment[i])

            self._problems.each(check, broken, where, found, expected)

        stop = offset + length
        is_end = stop == n_tokens
        last_token = w.tokens.reshape(-1)[end - 1]
        rule(
            "tokens",
            is_end & (last_token != self._eos) & (not self._may_be_cut),
            lambda i: f"the document ends with id {last_token[i]}",
            f"EOS, id {self._eos}",
        )
        rule(
            "split",
            documents.split != shard.SPLITS.index(split),
            f"a document of the other split in {split}",
            "each document in the shards of its own split",
        )
        rule(
            "packing",
            ~is_end & (end % window != 0),
            lambda i: f"cut at token {stop[i]} of {n_tokens[i]}, inside the window",
            "cuts only at the end of a window",
        )
        if self._best_fit:
            rule(
                "packing",
                piece & (n_tokens <= window),
                lambda i: f"cut, although its {n_tokens[i]} tokens fit into a window",
                "best_fit cuts only documents longer than a window",
            )
        return int(np.count_nonzero(piece & (offset == 0)))

    def seen(self) -> Seen:
        """What was gathered."""
        whole = np.unique(np.concatenate(self._whole), return_counts=True)
        return Seen(np.stack(whole), np.concatenate(self._pieces, axis=1))


class Coverage:
    """Gathers the segments of all windows, and checks that they cover the documents."""

    def __init__(self, documents: Documents, problems: Problems) -> None:
        self._documents, self._problems = documents, problems
        self._whole = np.zeros(len(documents), np.int32)
        self._pieces: list[Array] = [np.empty((3, 0), np.int64)]

    def add(self, seen: Seen) -> None:
        """Adds the segments of some windows."""
        doc, times = seen.whole
        self._whole[doc] += times.astype(np.int32)
        self._pieces.append(seen.pieces)

    def check(self) -> None:
        """Checks that segments cover every document `copies` times."""
        n, copies = self._documents.n_tokens, self._documents.copies
        doc, offset, length = np.concatenate(self._pieces, axis=1)
        due = copies.astype(np.int64) - self._whole
        in_pieces = np.zeros(len(n), np.bool_)
        in_pieces[doc] = True
        self._problems.each(
            "coverage",
            ~in_pieces & (due != 0),
            "document {}".format,
            lambda i: f"it is there {plural(self._whole[i], 'time')}",
            lambda i: plural(copies[i], "time"),
        )
        at_doc, token, net = _balance(doc, offset, length)
        begin_or_end = [token == 0, token == n[at_doc]]
        expected = np.select(begin_or_end, [due[at_doc], -due[at_doc]], 0)
        wrong = np.flatnonzero(net != expected)
        first_of_document = np.zeros(len(net), np.bool_)
        first_of_document[wrong[np.unique(at_doc[wrong], return_index=True)[1]]] = True
        self._problems.each(
            "coverage",
            first_of_document,
            lambda i: f"document {at_doc[i]}, token {token[i]} of {n[at_doc[i]]}",
            lambda i: f"segments that begin here minus those that end here: {net[i]}",
            lambda i: f"{expected[i]}, since copies is {copies[at_doc[i]]}",
        )
        self._problems.note(
            "coverage",
            f"{plural(len(n), 'document')}, {np.count_nonzero(in_pieces):,} split across windows",
        )


def _balance(doc: Array, offset: Array, length: Array) -> tuple[Array, Array, Array]:
    """Segments that begin minus those that end, at each (document, token) where one does."""
    at_doc = np.concatenate((doc, doc))
    at_token = np.concatenate((offset, offset + length))
    change = np.repeat(np.array([1, -1], np.int64), len(doc))
    order = np.lexsort((at_token, at_doc))
    at_doc, at_token, change = at_doc[order], at_token[order], change[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (at_doc[1:] != at_doc[:-1]) | (at_token[1:] != at_token[:-1])
    first = np.flatnonzero(new)
    net = np.add.reduceat(change, first) if len(first) else change
    return at_doc[first], at_token[first], net
