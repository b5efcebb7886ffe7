"""Log-probabilities of answers, batch by batch.

    log p(answer | prompt) = sum over its tokens of log p(token | prompt, tokens before it)

in nats. All answers to a prompt share its memory: the prompt is read once, and the answers follow
it side by side, in one call in which none sees another. That costs a tenth or two of the prompt;
one call for each answer costs up to 0.7 of it. (Repeating the memory for every answer, so that they
are a batch, costs as much as one call for each, and as many times the memory.)
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from ...schemas.errors import ExactcptError
from ...schemas.sizes import plural
from .models import PADDING, Model, is_out_of_memory
from .results import Journal

__all__ = ["PADDED", "Halving", "answer_scores", "batches", "losses", "nearly_alike", "run_batches"]

T = TypeVar("T")
R = TypeVar("R")

LARGEST_BATCH = 256
"""Prompts per batch: each has a row of logits over the vocabulary."""

PADDED = 0.01
"""The largest share of a row of a batch that is padding."""

LOGIT_BYTES = 1 << 30
"""Memory for the logits of all positions of a batch, in fp32; one sequence, or one answer to each
prompt, is always allowed."""


def answer_scores(
    model: Model, prompts: Sequence[NDArray[np.int32]], answers: Sequence[Sequence[Sequence[int]]]
) -> NDArray[np.float64]:
    """Log-probabilities of the answers to some prompts, in nats.

    Args:
        model: reads the prompts.
        prompts: B prompts; of one length, unless the model pads prompts.
        answers: for each prompt R answers, of any lengths.

    Returns:
        Shape [B, R].
    """
    lengths = torch.tensor([len(prompt) for prompt in prompts]).to(model.device)
    wanted = _padded(answers).to(model.device)
    first, memory = model.read(_rows(prompts).to(model.device), lengths)
    scores = _log_probabilities(first).gather(1, wanted[:, :, 0]).double()
    if wanted.shape[2] > 1:
        at_once = max(1, LOGIT_BYTES // (4 * model.vocabulary * wanted[:, 0, 1:].numel()))
        later = [_continued(model, memory, part) for part in wanted.split(at_once, dim=1)]
        scores = scores + torch.cat(later, dim=1)
    return _checked(scores.cpu().numpy())


def _rows(sequences: Sequence[NDArray[np.int32]]) -> Tensor:
    """Sequences as int64 [B, L], L the length of the longest one; padded behind."""
    ids = torch.full((len(sequences), max(map(len, sequences))), PADDING, dtype=torch.int64)
    for row, sequence in zip(ids, sequences, strict=True):
        row[: len(sequence)] = torch.from_numpy(sequence.astype(np.int64))
    return ids


NO_TOKEN = -1
"""Stands behind answers that are shorter than others."""


def _padded(answers: Sequence[Sequence[Sequence[int]]]) -> Tensor:
    """The answers as int64 [B, R, m], m the length of the longest one."""
    longest = max(len(answer) for row in answers for answer in row)
    return torch.tensor(
        [[[*a, *[NO_TOKEN] * (longest - len(a))] for a in row] for row in answers],
        dtype=torch.int64,
    )


def _continued(model: Model, memory: Any, answers: Tensor) -> Tensor:
    """Log-probabilities of R answers to each prompt, after their first tokens; fp64 [B, R]."""
    tokens = answers.clamp(min=0)  # what stands behind an answer does not change its scores
    logits = model.go_on(memory, tokens[:, :, :-1])
    found = _log_probabilities(logits).gather(3, tokens[:, :, 1:, None]).squeeze(3).double()
    return found.where(answers[:, :, 1:] != NO_TOKEN, 0).sum(dim=2)


def _log_probabilities(logits: Tensor) -> Tensor:
    """The logarithm of the softmax over the last dimension, in fp32, or in fp64 as the logits."""
    exact = torch.promote_types(logits.dtype, torch.float32)
    return torch.log_softmax(logits.to(exact), dim=-1)


def losses(
    model: Model, sequences: Sequence[NDArray[np.int32]], tokens: int, halving: "Halving"
) -> list[NDArray[np.float64]]:
    """The losses of all tokens but the first of each sequence, in nats.

    Sequences of about one length are read together, with padding behind them, if the model pads;
    else sequences of the same length.

    Args:
        model: reads the sequences.
        sequences: each int32 [n], n >= 2.
        tokens: how many a batch may have, padding included.
        halving: makes smaller batches if the memory runs out.

    Returns:
        For each sequence, [n - 1].
    """
    tokens = min(tokens, LOGIT_BYTES // (4 * model.vocabulary))
    order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
    found: dict[int, NDArray[np.float64]] = {}
    while order:
        size = max(1, tokens // len(sequences[order[0]]))
        batch = order[:size]
        if not model.pads:
            batch = [i for i in batch if len(sequences[i]) == len(sequences[order[0]])]
        order = order[len(batch) :]
        read = halving(lambda part: _losses(model, part), [sequences[i] for i in batch])
        found |= dict(zip(batch, read, strict=True))
    return [found[i] for i in range(len(sequences))]


def _losses(model: Model, sequences: Sequence[NDArray[np.int32]]) -> Sequence[NDArray[np.float64]]:
    ids = _rows(sequences).to(model.device)
    logits = model.logits(ids)[:, :-1]
    exact = torch.promote_types(logits.dtype, torch.float32)
    ce = F.cross_entropy(logits.flatten(0, 1).to(exact), ids[:, 1:].flatten(), reduction="none")
    rows = ce.double().view(len(sequences), -1).cpu().numpy()
    return [_checked(row[: len(each) - 1]) for row, each in zip(rows, sequences, strict=True)]


def _checked(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not np.isfinite(scores).all():
        raise ExactcptError(
            "the model gives scores that are no numbers",
            expected="finite logits",
            fix="check its weights, or evaluate with --precision fp32",
        )
    return scores


def batches(rows: Iterable[T], shape: Callable[[T], Any], tokens: int) -> Iterator[list[T]]:
    """Yields batches of rows of one shape, in the order of the shapes, largest first.

    The batches are a function of the rows and `tokens`: an evaluation that was interrupted has the
    same ones when it goes on, and so the same scores to the last bit.

    Args:
        rows: what to divide; rows of one shape keep their order.
        shape: of a row; a tuple that begins with its number of tokens.
        tokens: how many a batch may have; one row is always allowed.
    """
    alike: dict[Any, list[T]] = {}
    for row in rows:
        alike.setdefault(shape(row), []).append(row)
    for key in sorted(alike, reverse=True):
        size = min(LARGEST_BATCH, max(1, tokens // key[0]))
        for first in range(0, len(alike[key]), size):
            yield alike[key][first : first + size]


def nearly_alike(
    rows: Iterable[T], shape: Callable[[T], tuple[int, Any]], tokens: int, *, slack: float = PADDED
) -> Iterator[list[T]]:
    """Yields batches of rows of about one length, longest first.

    They are a function of the rows, `tokens` and `slack`, as `batches` are.

    Args:
        rows: what to divide.
        shape: number of tokens of a row, and what rows of a batch have in common.
        tokens: how many a batch may have, padding included; one row is always allowed.
        slack: the largest share of a row that may be padding.
    """
    alike: dict[Any, list[tuple[int, T]]] = {}
    for row in rows:
        length, kind = shape(row)
        alike.setdefault(kind, []).append((length, row))
    for group in alike.values():
        batch: list[T] = []
        longest = 0
        for length, row in sorted(group, key=lambda each: -each[0]):
            fits = len(batch) < min(LARGEST_BATCH, tokens // max(1, longest))
            if batch and not (fits and longest - length <= slack * longest):
                yield batch
                batch = []
            longest = longest if batch else length
            batch.append(row)
        yield batch


class Halving:
    """Calls a function on batches; if the memory runs out, on halves of them from then on."""

    def __init__(self) -> None:
        self._divisor = 1

    def __call__(self, work: Callable[[Sequence[T]], Sequence[R]], batch: Sequence[T]) -> list[R]:
        """The results for all rows of a batch.

        Args:
            work: gives one result for each row.
            batch: the rows.

        Raises:
            ExactcptError: the memory is not enough for one row.
        """
        while True:
            size = -(-len(batch) // self._divisor)
            pieces = [batch[i : i + size] for i in range(0, len(batch), size)]
            try:
                return [result for piece in pieces for result in work(piece)]
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1:
                    raise ExactcptError(
                        "the memory is not enough for one prompt at a time",
                        expected=f"memory for more than a batch of {plural(1, 'prompt')}",
                        fix="give shorter --lengths or --precision bf16, or use another device",
                    ) from error
            self._divisor *= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def run_batches(
    batches: Iterable[Sequence[T]],
    name: Callable[[T], str],
    work: Callable[[Sequence[T]], Sequence[Any]],
    journal: Journal,
    done: Callable[[int], None],
) -> None:
    """Scores the batches that the journal does not have.

    Args:
        batches: rows of every batch.
        name: of a row, in the journal.
        work: gives the scores of each row, as JSON values.
        journal: takes the scores.
        done: told after every batch how many rows it has.
    """
    for batch in batches:
        if any(name(row) not in journal.scores for row in batch):
            began = time.monotonic()
            found = dict(zip(map(name, batch), work(batch), strict=True))
            journal.add(found, time.monotonic() - began)
        done(len(batch))
