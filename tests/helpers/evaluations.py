"""Models made by hand for the tests of evaluation, and small haystacks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from exactcpt.training.evaluation.haystack import Haystack, stream_of
from exactcpt.training.evaluation.vocabulary import Vocabulary, read_vocabulary

DATA = Path(__file__).parents[1] / "data"
CERTAIN = 1e4


def vocabulary() -> Vocabulary:
    return read_vocabulary(DATA / "tokenizer.json")


def haystack(tokens: int, *, bos: tuple[int, ...] = ()) -> Haystack:
    """A stream of ids from 4000 on, of which the values of facts have none."""
    ids = 4000 + np.arange(tokens) ** 2 % 89
    return stream_of("made up", [ids.astype(np.int32)], (), bos)


class HandMade:
    """A model without memory: it says what follows a sequence of tokens, [V]."""

    device = torch.device("cpu")
    pads = pads_prompts = True

    def __init__(self, vocabulary: int) -> None:
        self.vocabulary = vocabulary

    def after(self, sequence: list[int]) -> Tensor:
        raise NotImplementedError

    def logits(self, ids: Tensor) -> Tensor:
        rows = [[self.after(row[: i + 1]) for i in range(len(row))] for row in ids.tolist()]
        return torch.stack([torch.stack(row) for row in rows])

    def read(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        rows = [row[:n] for row, n in zip(prompts.tolist(), lengths.tolist(), strict=True)]
        return torch.stack([self.after(row) for row in rows]), rows

    def go_on(self, memory: Any, ids: Tensor) -> Tensor:
        found = [
            [self.after([*prompt, *way[: i + 1]]) for way in ways for i in range(len(way))]
            for prompt, ways in zip(memory, ids.tolist(), strict=True)
        ]
        return torch.stack([torch.stack(row) for row in found]).unflatten(1, ids.shape[1:])


class Unigram(HandMade):
    """Knows how frequent tokens are and sees no context."""

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        super().__init__(vocabulary)
        draw = torch.Generator().manual_seed(seed)
        self.likes = torch.randn(vocabulary, generator=draw).double()

    def after(self, sequence: list[int]) -> Tensor:
        return self.likes


class Copying(HandMade):
    """Recalls any statement that it has read, at any distance; of all else it has no idea.

    Args:
        statements: sentence, question and answer, in ids.
    """

    def __init__(self, vocabulary: int, statements: Sequence[tuple[Sequence[int], ...]]) -> None:
        super().__init__(vocabulary)
        self._statements = statements

    def after(self, sequence: list[int]) -> Tensor:
        found = torch.zeros(self.vocabulary, dtype=torch.float64)
        for sentence, question, answer in self._statements:
            asked = last_place(sequence, question)
            if asked is not None and last_place(sequence[:asked], sentence) is not None:
                said = len(sequence) - asked - len(question)
                if said < len(answer):
                    found[answer[said]] = CERTAIN
        return found


class Uncached:
    """Another model, which is asked for everything again."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.vocabulary, self.device, self.pads_prompts = model.vocabulary, model.device, False

    def read(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        assert {*lengths.tolist()} == {prompts.shape[1]}
        return self._model.logits(prompts)[:, -1], prompts

    def go_on(self, memory: Any, ids: Tensor) -> Tensor:
        ways = [
            self._model.logits(torch.cat([memory, way], dim=1))[:, -way.shape[1] :]
            for way in ids.unbind(1)
        ]
        return torch.stack(ways, dim=1)


def last_place(sequence: Sequence[int], wanted: Sequence[int]) -> int | None:
    """Where a sequence stands in another one for the last time."""
    wanted = list(wanted)
    starts = (i for i in reversed(range(len(sequence))) if sequence[i] == wanted[0])
    return next((i for i in starts if list(sequence[i : i + len(wanted)]) == wanted), None)
