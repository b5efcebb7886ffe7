"""Slow, obvious versions of what the core computes: no numpy tricks, no closed forms."""

from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from exactcpt.pipeline.core.packing import Packing
from exactcpt.pipeline.core.parameters import Exact

Token = tuple[int, int]  # document, offset
Segment = tuple[int, int, int]  # document, offset, length

MASK_64 = 2**64 - 1


def contexts_by_mask(segment_lengths: Sequence[int]) -> list[int]:
    """Tokens every position may attend to under a document-causal mask, itself left out."""
    segment = np.array([s for s, length in enumerate(segment_lengths) for _ in range(length)])
    positions = np.arange(len(segment))
    same_document = segment[:, None] == segment[None, :]
    not_later = positions[None, :] <= positions[:, None]
    return ((same_document & not_later).sum(axis=1) - 1).tolist()


def supervised_by_token(
    window: Sequence[Segment], runs: Sequence[Sequence[tuple[int, int]]]
) -> list[bool]:
    """Of each token of a window, whether a run of its document has it, and others precede it.

    Args:
        window: its segments.
        runs: start and stop of the supervised runs of each document.
    """
    contexts = contexts_by_mask([length for _, _, length in window])
    places = [(document, offset + i) for document, offset, n in window for i in range(n)]
    return [
        context > 0 and any(start <= at < stop for start, stop in runs[document])
        for context, (document, at) in zip(contexts, places, strict=True)
    ]


def bucket_by_search(context: int) -> int:
    """The first bucket whose range holds the context: 0-7, 8-15, 16-31, ..."""
    bucket, low, high = 0, 0, 7
    while not low <= context <= high:
        bucket += 1
        low, high = 2 ** (bucket + 2), 2 ** (bucket + 3) - 1
    return bucket


def histogram_by_counting(segment_lengths: Sequence[int], window: int) -> list[int]:
    """One target after the other, each put into its bucket."""
    counts = [0] * (bucket_by_search(window - 1) + 1)
    for length in segment_lengths:
        for context in range(1, length):
            counts[bucket_by_search(context)] += 1
    return counts


def weights_by_formula(counts: Sequence[int], exact: Exact) -> list[Fraction]:
    """w_b = 1 + alpha r_b / r_bar in fractions; the ceiling is ignored."""
    q, r = _tail(counts, exact)
    r_bar = sum((q[b] * r[b] for b in q), Fraction(0))
    return [
        1 + Fraction(exact.alpha) * r[b] / r_bar if b in q else Fraction(1)
        for b in range(len(counts))
    ]


def weights_by_bisection(counts: Sequence[int], exact: Exact) -> list[float]:
    """w_b = 1 + min(W - 1, lambda r_b), with lambda searched for until the budget is alpha."""
    assert exact.max_weight is not None
    with localcontext(prec=60):
        ceiling, alpha = Decimal(exact.max_weight) - 1, Decimal(exact.alpha)
        exact_q, exact_r = _tail(counts, exact)
        q = {b: _decimal(value) for b, value in exact_q.items()}
        r = {b: _decimal(value) for b, value in exact_r.items()}
        low, high = Decimal(0), ceiling / min(r.values(), default=Decimal(1))
        for _ in range(400):
            scale = (low + high) / 2
            if sum(q[b] * min(ceiling, scale * r[b]) for b in q) < alpha:
                low = scale
            else:
                high = scale
        return [float(1 + min(ceiling, high * r[b])) if b in q else 1.0 for b in range(len(counts))]


def _tail(counts: Sequence[int], exact: Exact) -> tuple[dict[int, Fraction], dict[int, Fraction]]:
    """q and r of the tail's buckets."""
    smallest = [0] + [2 ** (b + 2) for b in range(1, len(counts))]
    tail = [b for b in range(len(counts)) if smallest[b] >= exact.tau and counts[b] > 0]
    total = sum(counts[b] for b in tail)
    q = {b: Fraction(counts[b], total) for b in tail}
    return q, {b: _to_the_minus(q[b] + Fraction(exact.epsilon), exact.gamma) for b in tail}


def _to_the_minus(base: Fraction, gamma: float) -> Fraction:
    """Exact where gamma is an integer, else to 60 digits."""
    if gamma == int(gamma):
        return base ** -int(gamma)
    with localcontext(prec=60):
        return Fraction(_decimal(base) ** -Decimal(gamma))


def _decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def concat_by_stream(lengths: Sequence[int], window: int) -> list[list[Segment]]:
    """All tokens in a row, cut every `window`, runs of one document joined."""
    stream: list[Token] = [(d, offset) for d, n in enumerate(lengths) for offset in range(n)]
    windows = [stream[i : i + window] for i in range(0, len(stream), window)]
    return [
        [
            (run[0][0], run[0][1], len(run))
            for run in (list(tokens) for _, tokens in groupby(cut, key=lambda token: token[0]))
        ]
        for cut in windows
    ]


def best_fit_by_piece(lengths: Sequence[int], window: int) -> list[list[Segment]]:
    """Every piece, longest first, into the fullest window that has room for it."""
    pieces: list[Segment] = [
        (d, offset, min(window, n - offset))
        for d, n in enumerate(lengths)
        for offset in range(0, n, window)
    ]
    windows: list[list[Segment]] = []
    for piece in sorted(pieces, key=lambda piece: -piece[2]):
        fitting = [w for w in windows if room_left(w, window) >= piece[2]]
        if fitting:
            min(fitting, key=lambda w: room_left(w, window)).append(piece)
        else:
            windows.append([piece])
    return windows


def room_left(segments: Sequence[Segment], window: int) -> int:
    return window - sum(length for _, _, length in segments)


def windows_of(packing: Packing) -> list[list[Segment]]:
    """A packing's windows as plain lists of segments."""
    segments = list(
        zip(
            packing.document.tolist(),
            packing.offset.tolist(),
            packing.length.tolist(),
            strict=True,
        )
    )
    return [segments[begin:end] for begin, end in pairwise(packing.first.tolist())]


def sorted_by_draw(draws: NDArray[np.uint64]) -> list[int]:
    """Indices in the order of the draws' low bits, as many as an index leaves free in 64."""
    free = 64 - max(1, len(draws).bit_length())
    low_bits = [int(draw) % 2**free for draw in draws]
    return sorted(range(len(draws)), key=lambda i: low_bits[i])


def splitmix64(state: int) -> int:
    """The finaliser of SplitMix64 in Python's integers."""
    z = state & MASK_64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK_64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK_64
    return z ^ (z >> 31)


def splitmix64_inverse(z: int) -> int:
    """What splitmix64 was given."""
    z ^= z >> 31 ^ z >> 62
    z = z * pow(0x94D049BB133111EB, -1, 2**64) & MASK_64
    z ^= z >> 27 ^ z >> 54
    z = z * pow(0xBF58476D1CE4E5B9, -1, 2**64) & MASK_64
    return z ^ z >> 30 ^ z >> 60
