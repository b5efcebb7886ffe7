"""The inspection of raw corpora: an estimate from a sample, with intervals.

Every sampled document is put into a corpus of about the right size as often as it stands for
documents, that corpus is counted as a token store's documents are, and the counts are scaled to the
right size. Intervals come from `estimation.resample`.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ..config import PackConfig
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
from ..pack.settings import mixing_of, pack_settings
from ..tokens.plan import TokenizePlan
from .command_lines import pack_flags
from .sampling import Sampled
from .subject import Row, Subject

__all__ = ["inspect_sample"]

COUNTED_DOCUMENTS = 4_000_000
"""A larger corpus is counted at a smaller scale."""
Times = Mapping[str, NDArray[np.float64]]
Documents = tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]
"""Lengths, how many documents of the packed corpus each stands for, and its block."""


def inspect_sample(
    plan: TokenizePlan,
    tokenizer: Mapping[str, Any],
    sampled: Mapping[str, Sampled],
    configs: Sequence[PackConfig],
    command: Sequence[str],
) -> Subject:
    """What preparing the corpora with each configuration would come to, about.

    Args:
        plan: sources and tokenizer.
        tokenizer: as in the manifest of a token store.
        sampled: documents drawn from each source.
        configs: alike but for window, packing, and the parameters of the weights.
        command: the words that prepare the corpora, up to the settings of packing.

    Raises:
        ExactcptError: the sample has no documents.
    """
    config, names = configs[0], list(plan.files)
    settings = [pack_settings(one, names) for one in configs]
    longest = max((int(one.lengths.max(initial=0)) for one in sampled.values()), default=0)
    if not longest:
        raise ExactcptError(
            "the sample has no documents", fix="give a larger --sample, or look at the sources"
        )
    train = {name: _training(one, config) for name, one in sampled.items()}
    times = _times(train, config)
    size = sum(float(n.sum()) for n in times.values())
    scale = min(1.0, COUNTED_DOCUMENTS / max(1.0, size))
    corpus = _corpus(train, times, scale, config.seed)
    documents = sum(len(one.lengths) for one in sampled.values())
    fraction = documents / sum(float(one.weight.sum()) for one in sampled.values())
    stands_for = [(one.lengths, times[name], _numbered(one.block)) for name, one in train.items()]
    blocks = [int(block.max(initial=-1)) + 1 for _, _, block in stands_for]
    weights = block_weights(blocks, fraction, config.seed)
    rows: list[Row] = []
    counted: dict[tuple[int, str], tuple[Exposure, Resampled, Interval]] = {}
    for one, setting in zip(configs, settings, strict=True):
        key = one.window, one.packing
        if key not in counted:
            counter = Counter(one.window, one.packing, names, longest)
            counter.add(corpus)
            exposure = _scaled(counter.exposure(), 1 / scale)
            found = resample([_blocks(some, one) for some in stands_for], weights)
            windows = (
                found.of_tokens(exposure.windows)
                if one.packing == "concat"
                else window_interval(stands_for, weights, one.window, exposure.windows)
            )
            counted[key] = exposure, found, windows
        words = [*command, *pack_flags(setting, mixing=False), "--out", "OUT"]
        rows.append(_row(setting, *counted[key], shlex.join(words)))
    return Subject(
        path=" ".join(f"{source.name}={source.pattern}" for source in plan.config.sources),
        kind="sample",
        manifest={
            "settings": plan.settings,
            "tokenizer": tokenizer,
            "sources": [{"name": name, "read": _read(one)} for name, one in sampled.items()],
        },
        longest_document=longest,
        rows=tuple(rows),
        sample={
            "fraction": fraction,
            "documents": documents,
            "tokens": int(sum(one.lengths.sum(dtype=np.int64) for one in sampled.values())),
            "resamples": RESAMPLES,
        },
    )


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


def _corpus(train: Mapping[str, Sampled], times: Times, scale: float, seed: int) -> OrderedLengths:
    """Every document as often as it stands for some, in a seeded order."""
    lengths, source = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for number, (name, one) in enumerate(train.items()):
        reached = np.floor(np.cumsum(times[name]) * scale + 0.5).astype(np.int64)
        often = np.diff(reached, prepend=0)
        lengths.append(np.repeat(one.lengths, often))
        source.append(np.full(len(lengths[-1]), number))
    order = permutation(sum(map(len, lengths)), seed, Purpose.DOCUMENTS, 0, 0)
    return OrderedLengths(np.concatenate(lengths)[order], np.concatenate(source)[order])


def _numbered(block: NDArray[np.int64]) -> NDArray[np.int64]:
    """The blocks that have documents, as 0, 1, ..."""
    return np.unique(block, return_inverse=True)[1]


def _blocks(documents: Documents, config: PackConfig) -> Blocks:
    lengths, times, block = documents
    each = expected_histogram(lengths, config.window, config.packing) * times[:, None]
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
    hold = -(-sum(tokens.values()) // exposure.window)
    return replace(
        exposure,
        windows=max(hold, scaled(exposure.windows)),  # rounded apart they might not hold the tokens
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


def _row(
    settings: Mapping[str, Any],
    exposure: Exposure,
    resampled: Resampled,
    windows: Interval,
    command: str,
) -> Row:
    exact = exact_of(settings)
    weighting = weigh(exposure, exact)
    mean = weighting.mean_weight or 1.0
    intervals = {
        "level": LEVEL,
        "windows": list(windows),
        "tokens": list(resampled.of_tokens(exposure.tokens)),
        "mean_weight": list(
            resampled.interval(lambda h: _mean_weight(h, exposure.window, exact), mean)
        ),
        "shares": [list(interval) for interval in resampled.shares(weighting.mass_before)],
    }
    return Row(
        settings=settings,
        exposure=exposure,
        weighting=weighting,
        command=command,
        intervals=intervals,
    )


def _mean_weight(histogram: NDArray[np.float64], window: int, exact: Exact) -> float:
    """Over the targets of a histogram; 1 where there are none."""
    counts = np.rint(histogram).astype(np.int64)
    weights = weight_table(counts.tolist(), window, exact).weights
    targets = int(counts.sum())
    return float(counts @ np.array(weights)) / targets if targets else 1.0
