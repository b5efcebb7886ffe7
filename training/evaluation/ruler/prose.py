"""The haystack's text as sentences."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ....schemas.errors import UsageError
from ....schemas.sizes import plural
from ..draws import Draws
from ..haystack import Haystack
from ..vocabulary import Vocabulary

__all__ = ["NO_PROSE", "Prose", "prose_of", "sentences"]

PARAGRAPH = re.compile(r"\n\s*\n")
SENTENCE = re.compile(r"""(?:(?<=[.!?])|(?<=[.!?]["'”’)]))\s+(?=["'“‘(]?[^\W\d_a-z])""")
"""An end mark, perhaps a closing quote; a space; perhaps an opening quote, and a capital."""

SPACES = str.maketrans(dict.fromkeys("\t\n\v\f\r", " "))
"""Line breaks within a sentence are spaces."""

LONGEST = 400
"""Characters of a sentence: what has no ends, such as a table, is cut where its words are."""


@dataclass(frozen=True, kw_only=True)
class Prose:
    """Sentences in token ids, one behind the other.

    Attributes:
        name: where they are from, for errors.
        ids: of all sentences, int32.
        bounds: where each sentence begins in them, and their end; int64.
    """

    name: str
    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]

    def check_holds(self, count: int) -> None:
        """Checks that there is enough text for the longest items.

        Raises:
            UsageError: the sentences have fewer than `count` tokens.
        """
        if len(self.ids) < count:
            raise UsageError(
                f"the sentences of the haystack have {plural(len(self.ids), 'token')}",
                where=self.name,
                expected=f"at least {count:,}, the length of the longest items",
                fix="name a larger one with --haystack, or give shorter --lengths",
            )

    def stretch(self, draws: Draws, room: int) -> list[NDArray[np.int32]]:
        """Consecutive sentences from a drawn place: as many as have at most `room` tokens.

        There must be as many tokens, and at least one; all places that they follow are equally
        likely. A sentence that is longer than that is cut.
        """
        starts = np.searchsorted(self.bounds, len(self.ids) - room, side="right")
        first = draws.below(int(starts))
        stop = int(np.searchsorted(self.bounds, self.bounds[first] + room, side="right")) - 1
        cuts = self.bounds[first : stop + 1].tolist()
        whole = [self.ids[a:b] for a, b in pairwise(cuts)]
        return whole or [self.ids[cuts[0] : cuts[0] + room]]


NO_PROSE = Prose(name="", ids=np.empty(0, np.int32), bounds=np.zeros(1, np.int64))
"""For tasks that hide nothing in prose."""


def prose_of(haystack: Haystack, vocabulary: Vocabulary) -> Prose:
    """The sentences of a haystack, each tokenized with the space before it."""
    text = vocabulary.tokenizer.decode(haystack.ids.tolist(), skip_special_tokens=False)
    pieces = vocabulary.pieces([f" {sentence}" for sentence in sentences(text)])
    lengths = np.array([len(piece) for piece in pieces], np.int64)
    return Prose(
        name=haystack.name,
        ids=np.array([i for piece in pieces for i in piece], np.int32),
        bounds=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def sentences(text: str) -> Iterator[str]:
    """Yields the sentences of a text, without line breaks.

    A sentence ends with a paragraph, too, and after 400 characters at the latest.
    """
    for paragraph in PARAGRAPH.split(text):
        for sentence in SENTENCE.split(paragraph.strip()):
            yield from _lines(sentence)


def _lines(sentence: str) -> list[str]:
    """A sentence as lines that are short enough; most are one line."""
    line = sentence.expandtabs().translate(SPACES)
    if 0 < len(line) <= LONGEST:
        return [line]  # `textwrap` finds the same, and takes most of the time of a haystack
    return textwrap.wrap(line, LONGEST, break_on_hyphens=False)
