"""The inspection of raw corpora: an estimate from a sample, with intervals.

Each sampled document stands for a number of documents of the corpus, and is repeated that often in
a corpus of about the right size. That corpus is counted as a token store's documents are, and the
counts are scaled to the right size. The intervals come from `estimation.resample`.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ..config import PackConfig
from ..core.choices import PackingName
from ..core.estimation import (
    LEVEL,
    RESAMPLES,
    Blocks,
    Interval,
    Resampled,
    block_weights,
    expected_histogram,
    resample,
    window_interval,
)
from ..core.exact import weight_table
from ..core.parameters import Exact, exact_of
from ..core.selection import is_validation, wanted_copies
from ..core.shuffle import Purpose, permutation
from ..core.weighting import weigh
from ..core.whatif import Counter, Exposure, OrderedLengths, SourceExposure
from ..pack.settings import Settings, mixing_of, pack_settings
from ..tokens.plan import TokenizePlan
from .command_lines import pack_flags
from .sampling import Sampled
from .subject import Row, Subject

__all__ = ["inspect_sample"]

COUNTED_DOCUMENTS = 4_000_000
"""A larger corpus is counted at a smaller scale."""
Times = Mapping[str, NDArray[np.float64]]
SampledDocuments = tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]
"""Lengths, how many documents of the packed corpus each stands for, and its block."""


def inspect_sample(
    plan: TokenizePlan,
    tokenizer: Mapping[str, Any],
    sampled: Mapping[str, Sampled],
    configs: Sequence[PackConfig],
    command: Sequence[str],
) -> Subject:
    """Estimates what preparing the corpora with each configuration would give.

    Args:
        plan: sources and tokenizer.
        tokenizer: as in the manifest of a token store.
        sampled: documents drawn from each source.
        configs: alike but for window, packing, and the parameters of the weights.
        command: the words that prepare the corpora, up to the settings of packing.

    Raises:
        ExactcptError: the sample has no documents.
    """
    settings = [pack_settings(config, list(plan.files)) for config in configs]
    corpus = _corpus(sampled, configs[0])
    packings: list[tuple[int, PackingName]] = [(one.window, one.packing) for one in configs]
    answers = {packing: _answer(corpus, *packing) for packing in dict.fromkeys(packings)}

    def command_of(one: Settings) -> str:
        return shlex.join([*command, *pack_flags(one, mixing=False), "--out", "OUT"])

    return Subject(
        path=" ".join(f"{source.name}={source.pattern}" for source in plan.config.sources),
        kind="sample",
        manifest={
            "settings": plan.settings,
            "tokenizer": tokenizer,
            "sources": [{"name": name, "read": _read(one)} for name, one in sampled.items()],
        },
        longest_document=corpus.longest,
        rows=tuple(
            _row(one, answers[packing], command_of(one))
            for packing, one in zip(packings, settings, strict=True)
        ),
        sample={
            "fraction": corpus.fraction,
            "documents": sum(len(one.lengths) for one in sampled.values()),
            "tokens": int(sum(one.lengths.sum(dtype=np.int64) for one in sampled.values())),
            "resamples": RESAMPLES,
        },
    )


@dataclass(frozen=True, kw_only=True)
class _Corpus:
    """What is counted and resampled: the training documents of a sample.

    Attributes:
        sources: their names.
        longest: tokens of the longest sampled document.
        fraction: how much of the corpus was sampled, 0 to 1.
        repeated: every document, once for each that it stands for, times `scale`.
        scale: size of `repeated` relative to the corpus; 1 unless the corpus is very large.
        documents: by source.
        block_weights: see `estimation.block_weights`.
    """

    sources: Sequence[str]
    longest: int
    fraction: float
    repeated: OrderedLengths
    scale: float
    documents: Sequence[SampledDocuments]
    block_weights: Sequence[NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The estimate for one window and packing: figures, their resamples, and windows' interval."""

    exposure: Exposure
    resampled: Resampled
    windows: Interval


def _corpus(sampled: Mapping[str, Sampled], config: PackConfig) -> _Corpus:
    longest = max((int(one.lengths.max(initial=0)) for one in sampled.values()), default=0)
    if not longest:
        raise ExactcptError(
            "the sample has no documents",
            fix="give a larger --sample, or check what the sources contain",
        )
    train = {name: _training(one, config) for name, one in sampled.items()}
    times = _times(train, config)
    size = sum(float(n.sum()) for n in times.values())
    scale = min(1.0, COUNTED_DOCUMENTS / max(1.0, size))
    documents = [(one.lengths, times[name], _numbered(one.block)) for name, one in train.items()]
    drawn = sum(len(one.lengths) for one in sampled.values())
    fraction = drawn / sum(float(one.weight.sum()) for one in sampled.values())
    blocks = [int(block.max(initial=-1)) + 1 for _, _, block in documents]
    return _Corpus(
        sources=list(sampled),
        longest=longest,
        fraction=fraction,
        repeated=_repeated(train, times, scale, config.seed),
        scale=scale,
        documents=documents,
        block_weights=block_weights(blocks, fraction, config.seed),
    )


def _answer(corpus: _Corpus, window: int, packing: PackingName) -> _Answer:
    counter = Counter(window, packing, corpus.sources, corpus.longest)
    counter.add(corpus.repeated)
    exposure = _scaled(counter.exposure(), 1 / corpus.scale)
    blocks = [_blocks(some, window, packing) for some in corpus.documents]
    resampled = resample(blocks, corpus.block_weights)
    if packing == "concat":
        windows = resampled.of_tokens(exposure.windows)
    else:
        windows = window_interval(corpus.documents, corpus.block_weights, window, exposure.windows)
    return _Answer(exposure=exposure, resampled=resampled, windows=windows)


def _training(sampled: Sampled, config: PackConfig) -> Sampled:
    fraction = Fraction(str(config.validation_fraction))
    return sampled[~is_validation(sampled.prefixes, fraction, config.seed)]


def _read(sampled: Sampled) -> dict[str, int]:
    return {
        "documents": round(float(sampled.weight.sum())),
        "tokens": round(float(sampled.weight @ sampled.lengths)),
    }


def _times(train: Mapping[str, Sampled], config: PackConfig) -> Times:
    """How many documents of the packed corpus each sampled document stands for."""
    tokens = {name: round(float(one.weight @ one.lengths)) for name, one in train.items()}
    mixing = mixing_of(pack_settings(config, list(train)))
    copies = wanted_copies(tokens, mixing, config.token_budget)
    return {name: one.weight * float(copies[name]) for name, one in train.items()}


def _repeated(
    train: Mapping[str, Sampled], times: Times, scale: float, seed: int
) -> OrderedLengths:
    """Every document, repeated once for each that it stands for, in a seeded order."""
    lengths, source = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for number, (name, one) in enumerate(train.items()):
        reached = np.floor(np.cumsum(times[name]) * scale + 0.5).astype(np.int64)
        often = np.diff(reached, prepend=0)
        lengths.append(np.repeat(one.lengths, often))
        source.append(np.full(len(lengths[-1]), number))
    order = permutation(sum(map(len, lengths)), seed, Purpose.DOCUMENTS, 0, 0)
    return OrderedLengths(np.concatenate(lengths)[order], np.concatenate(source)[order])


def _numbered(block: NDArray[np.int64]) -> NDArray[np.int64]:
    """Renumbers the blocks that have documents as 0, 1, ..."""
    return np.unique(block, return_inverse=True)[1]


def _blocks(documents: SampledDocuments, window: int, packing: PackingName) -> Blocks:
    lengths, times, block = documents
    each = expected_histogram(lengths, window, packing) * times[:, None]
    histogram = np.zeros((int(block.max(initial=-1)) + 1, each.shape[1]))
    np.add.at(histogram, block, each)
    tokens = np.bincount(block, times * lengths, len(histogram)).astype(np.float64)
    return Blocks(histogram=histogram, tokens=tokens)


def _scaled(exposure: Exposure, factor: float) -> Exposure:
    def scaled(count: int) -> int:
        return round(count * factor)

    def histogram(counts: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.rint(counts * factor).astype(np.int64)

    tokens = {name: scaled(source.tokens) for name, source in exposure.sources.items()}
    needed = -(-sum(tokens.values()) // exposure.window)
    return replace(
        exposure,
        windows=max(needed, scaled(exposure.windows)),  # each count is rounded on its own
        segments=scaled(exposure.segments),
        cut_documents=scaled(exposure.cut_documents),
        windows_by_largest=histogram(exposure.windows_by_largest),
        sources={
            name: SourceExposure(
                documents=scaled(source.documents),
                tokens=tokens[name],
                histogram=histogram(source.histogram),
            )
            for name, source in exposure.sources.items()
        },
    )


def _row(settings: Settings, answer: _Answer, command: str) -> Row:
    exact, exposure, resampled = exact_of(settings), answer.exposure, answer.resampled
    weighting = weigh(exposure, exact)

    def mean_weight(histogram: NDArray[np.float64]) -> float:
        return _mean_weight(histogram, exposure.window, exact)

    mean = resampled.interval(mean_weight, weighting.mean_weight or 1.0)
    return Row(
        settings=settings,
        exposure=exposure,
        weighting=weighting,
        command=command,
        intervals={
            "level": LEVEL,
            "windows": list(answer.windows),
            "tokens": list(resampled.of_tokens(exposure.tokens)),
            "mean_weight": list(mean),
            "shares": [list(share) for share in resampled.shares(weighting.mass_before)],
        },
    )


def _mean_weight(histogram: NDArray[np.float64], window: int, exact: Exact) -> float:
    """The mean weight of a histogram's targets; 1 where there are none."""
    counts = np.rint(histogram).astype(np.int64)
    weights = weight_table(counts.tolist(), window, exact).weights
    targets = int(counts.sum())
    return float(counts @ np.array(weights)) / targets if targets else 1.0
