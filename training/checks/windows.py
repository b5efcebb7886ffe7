"""Windows of a shard set to try a trainer with, and what is changed in them.

    tried      document A ... document B ... padding
    second     a document first, of any window

Of every document that is looked at, the first targets with a context of 4 or more count. A trainer
that shifts labels twice is then found by its shift, and not by what it sees of other documents.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...schemas import shard
from ...schemas.errors import UsageError
from ...schemas.mapped import WindowColumns
from ...schemas.shard_set import ShardSet
from ...schemas.shard_windows import ShardWindows
from ..models.labels import plain
from ..models.loss import IGNORE
from ..windows.batches import collate

__all__ = ["Document", "Tried", "Window", "batch_of", "choose_windows", "other_ids"]

SHORTEST = 10
"""Tokens that a document needs: 4 without a target that counts, 4 with one, 2 after them."""

FIRST = 4
"""The context of the first target that counts."""

SEARCHED = 1000
"""How many windows of the set are looked at."""

CUT = 8
"""The last of so many parts of a window becomes padding if there is none."""


@dataclass(frozen=True)
class Document:
    """Where a segment lies in its window: its number, its first position, its tokens."""

    number: int
    start: int
    length: int

    @property
    def stop(self) -> int:
        """The position after its last token."""
        return self.start + self.length

    def block(self, first: int, tokens: int = 2) -> range:
        """Some positions, from a context on."""
        return range(self.start + first, self.start + first + tokens)

    @property
    def early(self) -> range:
        """Its first two targets that count."""
        return self.block(FIRST)

    @property
    def counted(self) -> range:
        """All its targets that count."""
        return range(self.start + FIRST, self.stop)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window of L tokens.

    Attributes:
        ids: int32 [L].
        labels: int64 [L], unshifted; `IGNORE` where there is no target.
        weights: float32 [L]; 0 where there is no target.
        lengths: of its segments; they sum to L.
        padded: whether the last segment is padding.
    """

    ids: Tensor
    labels: Tensor
    weights: Tensor
    lengths: tuple[int, ...]
    padded: bool

    @property
    def documents(self) -> list[Document]:
        """Its segments, without the padding."""
        return _documents(self.lengths, self.padded)

    @property
    def padding(self) -> range:
        """The positions of the padding."""
        stop = len(self.ids)
        return range(stop - self.lengths[-1] if self.padded else stop, stop)

    def only(self, weights: Mapping[range, float]) -> "Window":
        """The same window with no other targets than some runs of positions, each with a weight."""
        labels, given = torch.full_like(self.labels, IGNORE), torch.zeros_like(self.weights)
        for run, weight in weights.items():
            places = slice(run.start, run.stop)
            labels[places] = self.ids[places]
            given[places] = weight
        return replace(self, labels=labels, weights=given)

    def with_ids(self, places: Iterable[int], ids: Mapping[int, int]) -> "Window":
        """The same window with other tokens in some places; labels stay."""
        changed = self.ids.clone()
        for place in places:
            changed[place] = ids[int(changed[place])]
        return replace(self, ids=changed)

    def with_labels(self, places: Iterable[int], ids: Mapping[int, int]) -> "Window":
        """The same window with other labels in some places; tokens stay."""
        changed = self.labels.clone()
        for place in places:
            changed[place] = ids[int(changed[place])]
        return replace(self, labels=changed)

    def with_first(self, document: Document) -> "Window":
        """The same window with one document before all the others."""
        own = list(range(document.start, document.stop))
        order = torch.tensor(own + [i for i in range(len(self.ids)) if i not in set(own)])
        lengths = list(self.lengths)
        moved = lengths.pop(document.number)
        return replace(
            self,
            ids=self.ids[order],
            labels=self.labels[order],
            weights=self.weights[order],
            lengths=(moved, *lengths),
        )


def batch_of(windows: Iterable[Window]) -> dict[str, Any]:
    """A micro-batch of windows, as `collate` makes it of those of a `ShardDataset`.

    Its labels are a plain tensor: a trainer that leaves the weights behind is to be found out, and
    would otherwise end with an error.
    """
    batch = collate(
        [
            {
                "input_ids": window.ids.clone(),
                "labels": window.labels.clone(),
                "loss_weights": window.weights.clone(),
                "position_ids": torch.cat(
                    [torch.arange(n, dtype=torch.int32) for n in window.lengths]
                ),
                "seq_lengths": torch.tensor(window.lengths, dtype=torch.int32),
            }
            for window in windows
        ]
    )
    return batch | {"labels": plain(batch["labels"])}


@dataclass(frozen=True, kw_only=True)
class Tried:
    """The windows that a trainer is tried with.

    Attributes:
        window: has documents `a` and `b`, and padding at its end.
        a, b: b stands somewhere behind a.
        second: another window; its first document is long enough.
        numbers: of both, in the train split.
        special: ids that mark the beginning or end of a document, padding, or the unknown.
    """

    window: Window
    a: Document
    b: Document
    second: Window
    numbers: tuple[int, int]
    special: frozenset[int]


def choose_windows(shards: ShardSet) -> Tried:
    """Takes two windows of the train split, among the first thousand.

    The first one is the window whose two longest documents are longest; if it is full, its end
    becomes padding.

    Raises:
        UsageError: no window has two documents of `SHORTEST` tokens, or no other one begins with
            a document as long, or there is a single kind of token.
        FormatError: as `ShardWindows`.
    """
    windows = ShardWindows(shards, shard.TRAIN)
    found = [windows[number] for number in range(min(len(windows), SEARCHED))]
    pairs = [_pair(_documents(*_with_padding(each))) for each in found]
    number = max(range(len(found)), key=lambda each: _shorter(pairs[each]))
    if _shorter(pairs[number]) < SHORTEST:
        raise _too_short(shards, "no training window has two documents that are long enough")
    second = next(
        (n for n, each in enumerate(found) if n != number and _first(each) >= SHORTEST), None
    )
    if second is None:
        raise _too_short(shards, "no other training window begins with a document long enough")
    tokenizer = shards.manifest["tokenizer"]
    window = _padded_window(shards, found[number], tokenizer["pad_id"])
    names = ("bos_id", "eos_id", "pad_id", "unk_id")
    pair = pairs[number]
    assert pair is not None
    return Tried(
        window=window,
        a=pair[0],
        b=pair[1],
        second=_window(shards, found[second]),
        numbers=(number, second),
        special=frozenset(i for i in (tokenizer.get(n) for n in names) if i is not None),
    )


def _window(shards: ShardSet, columns: WindowColumns) -> Window:
    targets = columns.codes != shard.UNSUPERVISED
    return Window(
        ids=torch.from_numpy(columns.ids.copy()),
        labels=torch.from_numpy(np.where(targets, columns.ids, IGNORE).astype(np.int64)),
        weights=torch.from_numpy(shards.dictionary(shard.TRAIN)[columns.codes]),
        lengths=tuple(columns.lengths.tolist()),
        padded=columns.padded,
    )


def _padded_window(shards: ShardSet, columns: WindowColumns, pad: int) -> Window:
    window = _window(shards, columns)
    if window.padded:
        return window
    lengths, _ = _with_padding(columns)
    cut = len(window.ids) - lengths[-1]
    window.ids[cut:], window.labels[cut:], window.weights[cut:] = pad, IGNORE, 0
    return replace(window, lengths=lengths, padded=True)


def _with_padding(columns: WindowColumns) -> tuple[tuple[int, ...], bool]:
    """The lengths of a window's segments after its end has become padding, if it was full."""
    lengths = columns.lengths.tolist()
    if columns.padded:
        return tuple(lengths), True
    total = sum(lengths)
    padding = max(1, total // CUT)
    ends = accumulate(lengths)
    kept = [n - max(0, end - (total - padding)) for n, end in zip(lengths, ends, strict=True)]
    return (*(n for n in kept if n > 0), padding), True


def _documents(lengths: Sequence[int], padded: bool) -> list[Document]:
    starts = list(accumulate(lengths, initial=0))[:-1]
    found = [Document(i, *place) for i, place in enumerate(zip(starts, lengths, strict=True))]
    return found[: len(found) - padded]


def _pair(documents: Sequence[Document]) -> tuple[Document, Document] | None:
    """The document a, and b behind it, of which the shorter one is as long as can be."""
    best, longest = None, None
    for document in documents:
        if longest is not None and min(longest.length, document.length) > _shorter(best):
            best = longest, document
        if longest is None or document.length > longest.length:
            longest = document
    return best


def _shorter(pair: tuple[Document, Document] | None) -> int:
    return 0 if pair is None else min(document.length for document in pair)


def _first(columns: WindowColumns) -> int:
    documents = _documents(columns.lengths.tolist(), columns.padded)
    return documents[0].length if documents else 0


def _too_short(shards: ShardSet, found: str) -> UsageError:
    return UsageError(
        found,
        where=str(shards.root),
        expected=f"two training windows: one with two documents of {SHORTEST} tokens or more, "
        "and one that begins with such a document",
        fix="pack shorter documents, or longer windows",
    )


def other_ids(tried: Tried) -> dict[int, int]:
    """For every id of the windows another one of them that marks nothing, at random.

    Raises:
        UsageError: there are not two such ids.
    """
    both = torch.cat([tried.window.ids, tried.second.ids]).unique().tolist()
    ordinary = [i for i in both if i not in tried.special]
    if len(ordinary) < 2:
        raise UsageError(
            "the windows have a single kind of token",
            expected="text: two different tokens at least",
        )
    draw = np.random.default_rng(0)
    shuffled = draw.permutation(ordinary).tolist()
    following = dict(zip(shuffled, [*shuffled[1:], shuffled[0]], strict=True))
    return {i: following.get(i, shuffled[0]) for i in both}
