"""The inspection of raw corpora: an estimate from a sample, with intervals.

Of input that was read in blocks, each sampled document stands for a number of documents of the
corpus, and is repeated that often. Of input that was read as a whole the size of every document is
known: documents that were not tokenized are given the tokens that their bytes predict. This corpus,
of about the right size, is counted as a token store's documents are, in one order. What the
predictions of the tokenized documents missed corrects the histogram, and so does what other orders
would give: where documents begin in windows is left to chance, and the corpus will have an order of
its own. The intervals come from `core/estimation.py`.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ExactcptError
from ...schemas.sizes import plural
from ..config import PackConfig
from ..core.choices import PackingName
from ..core.drawing import size_class
from ..core.estimation import (
    LEAST_UNITS,
    LEVEL,
    Errors,
    contributions_of_blocks,
    contributions_of_documents,
    expected_histogram,
    place_covariance,
)
from ..core.exact import weight_table
from ..core.parameters import Exact, exact_of
from ..core.selection import wanted_copies
from ..core.shuffle import Purpose, permutation
from ..core.weighting import weigh
from ..core.whatif import Counter, Exposure, OrderedLengths, SourceExposure
from ..pack.settings import Settings, mixing_of, pack_settings
from ..tokens.plan import TokenizePlan
from .command_lines import pack_flags
from .json_types import IntervalsJson, SampleJson
from .sampling import OfBlocks, OfDocuments, Strata
from .subject import Row, Subject

__all__ = ["inspect_sample"]

COUNTED_DOCUMENTS = 4_000_000
"""A larger corpus is counted at a smaller scale."""
Floats = NDArray[np.float64]


def inspect_sample(
    plan: TokenizePlan,
    tokenizer: Mapping[str, Any],
    sampled: Mapping[str, Strata],
    asked: float,
    configs: Sequence[PackConfig],
    command: Sequence[str],
) -> Subject:
    """Estimates what preparing the corpora with each configuration would give.

    Args:
        plan: sources and tokenizer.
        tokenizer: as in the manifest of a token store.
        sampled: documents drawn from each source.
        asked: the fraction of the text that was asked for.
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
        sample=_sample(sampled, asked),
    )


@dataclass(frozen=True)
class _Part:
    """The training documents of a source, or of some of its files, as far as they are known.

    Attributes:
        source: number of the source.
        copies: how often each document is seen.
        stratum: what was drawn.
        per_byte: tokens per byte of documents that were not tokenized.
        predicted: the tokens that such a document of each class of size has, if it is kept.
        kept: the part of them that is not dropped.
        lengths, often: tokens, and how many documents of the corpus have them; shape [n].
    """

    source: int
    copies: float
    stratum: OfBlocks | OfDocuments
    per_byte: float
    predicted: Floats
    kept: float
    lengths: Floats
    often: Floats


@dataclass(frozen=True, kw_only=True)
class _Corpus:
    """What is counted: the training documents of a corpus, known and predicted ones.

    Attributes:
        sources: their names.
        longest: tokens of the longest document, sampled or predicted.
        repeated: every document, once for each time that it is seen, times `scale`.
        scale: size of `repeated` relative to the corpus; 1 unless the corpus is very large.
        parts: where the documents are from.
        reason: why there are no intervals; None if there are.
    """

    sources: Sequence[str]
    longest: int
    repeated: OrderedLengths
    scale: float
    parts: Sequence[_Part]
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class _Answer:
    """The estimate for one window and packing; how far it may be off, or why nobody knows."""

    exposure: Exposure
    errors: Errors
    reason: str | None


def _sample(sampled: Mapping[str, Strata], asked: float) -> SampleJson:
    strata = [one for several in sampled.values() for one in several]
    whole = max(1.0, sum(one.whole for one in strata))
    documents = sum(one.documents for one in strata)
    in_all = sum(_read(several)["documents"] for several in sampled.values())
    return {
        "fraction": min(1.0, documents / max(1, in_all)),
        "documents": documents,
        "tokens": sum(one.tokens for one in strata),
        "asked": asked,
        "read": min(1.0, sum(one.read for one in strata) / whole),
        "tokenized": min(1.0, sum(one.tokenized for one in strata) / whole),
    }


def _corpus(sampled: Mapping[str, Strata], config: PackConfig) -> _Corpus:
    if not any(one.documents for several in sampled.values() for one in several):
        raise ExactcptError(
            "the sample has no documents",
            fix="give a larger --sample, or check what the sources contain",
        )
    once = [_part(i, one) for i, several in enumerate(sampled.values()) for one in several]
    copies = _copies(list(sampled), once, config)
    parts = [
        replace(one, copies=copies[one.source], often=one.often * copies[one.source])
        for one in once
    ]
    scale = min(1.0, COUNTED_DOCUMENTS / max(1.0, sum(float(one.often.sum()) for one in parts)))
    return _Corpus(
        sources=list(sampled),
        longest=max(math.ceil(one.lengths.max(initial=1)) for one in parts),
        repeated=_repeated(parts, scale, config.seed),
        scale=scale,
        parts=parts,
        reason=_reason(parts),
    )


def _part(source: int, stratum: OfBlocks | OfDocuments) -> _Part:
    lengths, weight = stratum.lengths.astype(np.float64), stratum.weight
    own = stratum.train & (stratum.lengths > 0)
    if isinstance(stratum, OfBlocks):
        none = np.empty(0)
        return _Part(source, 1.0, stratum, 0.0, none, 0.0, lengths[own], weight[own])
    per_byte, kept = _of_the_rest(stratum)
    predicted = np.maximum(stratum.training.mean * per_byte / max(kept, 1e-300), 1)
    rest = _rest(stratum)
    some = rest > 0
    return _Part(
        source=source,
        copies=1.0,
        stratum=stratum,
        per_byte=per_byte,
        predicted=predicted,
        kept=kept,
        lengths=np.append(lengths[own], predicted[some]),
        often=np.append(np.ones(int(own.sum())), rest[some] * kept),
    )


def _of_the_rest(stratum: OfDocuments) -> tuple[float, float]:
    """The tokens per byte of documents that were not tokenized, and how many of them are kept.

    What is dropped has no tokens, so those that are kept have more of them per byte.
    """
    extra = stratum.weight - 1
    size = float(extra @ stratum.sizes)
    if not size:
        return 0.0, 0.0
    kept = float(extra @ (stratum.lengths > 0)) / float(extra.sum())
    return float(extra @ stratum.lengths) / size, kept


def _rest(stratum: OfDocuments) -> Floats:
    """How many training documents of each class of size were not tokenized."""
    drawn = size_class(stratum.sizes[stratum.train])
    count = stratum.training.count
    return (count - np.bincount(drawn, minlength=len(count))).astype(np.float64)


def _copies(names: Sequence[str], parts: Sequence[_Part], config: PackConfig) -> list[float]:
    tokens = [
        sum(float(one.often @ one.lengths) for one in parts if one.source == i)
        for i in range(len(names))
    ]
    mixing = mixing_of(pack_settings(config, list(names)))
    rounded = {name: round(n) for name, n in zip(names, tokens, strict=True)}
    copies = wanted_copies(rounded, mixing, config.token_budget)
    return [float(copies[name]) for name in names]


def _reason(parts: Sequence[_Part]) -> str | None:
    """Why there are no intervals; None if there are."""
    open_ = [one.stratum for one in parts if _is_partial(one.stratum)]
    if not open_:
        return "everything was tokenized: only the order of the documents is left to chance"
    for stratum in open_:
        if isinstance(stratum, OfBlocks):
            number, what = _effective_blocks(stratum), "block"
        else:
            number, what = len(np.unique(stratum.unit[stratum.weight > 1])), "document"
        if number < LEAST_UNITS:
            return (
                f"of a source there is no more than {plural(number, what)} in the sample, and "
                f"{LEAST_UNITS} are needed to tell how they vary; give a larger --sample"
            )
    return None


def _effective_blocks(stratum: OfBlocks) -> int:
    """How many blocks of equal size would say as much (Kish): few, if some documents are long."""
    size = stratum.block_bytes
    return int(size.sum() ** 2 / max(1.0, float(np.square(size).sum())))


def _is_partial(stratum: OfBlocks | OfDocuments) -> bool:
    """Whether something of it has not been tokenized."""
    if isinstance(stratum, OfBlocks):
        return True
    return int(stratum.all.count.sum()) > len(stratum.lengths)


def _answer(corpus: _Corpus, window: int, packing: PackingName) -> _Answer:
    counter = Counter(window, packing, corpus.sources, corpus.longest)
    counter.add(corpus.repeated)
    exposure = _scaled(counter.exposure(), 1 / corpus.scale)
    buckets = len(exposure.histogram)
    rows, places, seen = [np.zeros((0, buckets + 1))], np.zeros((buckets, buckets)), 0
    missed = np.zeros((len(corpus.sources), buckets))
    expected = np.zeros((len(corpus.sources), buckets))
    for part in corpus.parts:
        found = _contributions(part, window, packing)
        rows.append(part.copies * found.contributions)
        missed[part.source] += part.copies * found.missed
        seen = seen + found.seen
        if packing == "concat":
            places += place_covariance(part.lengths, part.often, window)
            expected[part.source] += part.often @ expected_histogram(part.lengths, window, packing)
    if packing == "concat" and corpus.reason is None:
        missed += expected - np.array([one.histogram for one in exposure.sources.values()])
    exposure = _corrected(exposure, missed)
    errors = Errors(
        histogram=exposure.histogram.astype(np.float64),
        tokens=float(exposure.tokens),
        contributions=np.concatenate(rows),
        places=places,
        seen=np.asarray(seen),
    )
    return _Answer(exposure=exposure, errors=errors, reason=corpus.reason)


@dataclass(frozen=True, kw_only=True)
class _Contributions:
    """What a part adds to the errors; see `Errors`. `missed` is what corrects the histogram."""

    contributions: Floats
    seen: NDArray[np.int64]
    missed: Floats


def _contributions(part: _Part, window: int, packing: PackingName) -> _Contributions:
    stratum = part.stratum
    lengths = np.where(stratum.train, stratum.lengths, 0)
    histogram = expected_histogram(lengths, window, packing)
    tokens = lengths.astype(np.float64)
    if isinstance(stratum, OfBlocks):
        figures = _by_unit(np.column_stack([histogram, tokens]), stratum.unit)
        size = stratum.block_bytes[np.unique(stratum.unit)]
        return _Contributions(
            contributions=contributions_of_blocks(figures, size, stratum.whole * _filled(stratum)),
            seen=(figures[:, :-1] > 0).sum(axis=0),
            missed=np.zeros(histogram.shape[1]),
        )
    expected = part.predicted[size_class(stratum.sizes)]
    each = part.kept * expected_histogram(expected, window, packing)
    residual = histogram - np.where(stratum.train[:, None], each, 0)
    drawn = float(stratum.weight @ stratum.sizes)
    scale = float(stratum.training.size.sum()) / max(drawn, 1e-300)
    off = scale * (stratum.lengths - part.per_byte * stratum.sizes)
    found = contributions_of_documents(
        np.column_stack([residual, off]), stratum.sizes, stratum.weight
    )
    return _Contributions(
        contributions=_by_unit(found, stratum.unit),
        seen=(_by_unit(histogram, stratum.unit) > 0).sum(axis=0),
        missed=(stratum.weight - 1) @ residual,
    )


def _by_unit(figures: Floats, unit: NDArray[np.int64]) -> Floats:
    """The sums of each unit, shape [units, figures]."""
    which = np.unique(unit, return_inverse=True)[1]
    found = np.zeros((int(which.max(initial=-1)) + 1, figures.shape[1]))
    np.add.at(found, which, figures)
    return found


def _filled(stratum: OfBlocks) -> float:
    """The part of the bytes that is in blocks with documents."""
    size = stratum.block_bytes
    return float(size[np.unique(stratum.unit)].sum()) / max(1.0, float(size.sum()))


def _corrected(exposure: Exposure, missed: Floats) -> Exposure:
    """Adds to each source's histogram what the predictions and the one order have missed."""
    return replace(
        exposure,
        sources={
            name: replace(
                source,
                histogram=np.maximum(source.histogram + np.rint(more), 0).astype(np.int64),
            )
            for (name, source), more in zip(exposure.sources.items(), missed, strict=True)
        },
    )


def _read(strata: Strata) -> dict[str, int]:
    """Documents and tokens of a source, for training and validation together."""
    documents = tokens = 0.0
    for one in strata:
        kept = one.lengths > 0
        documents += float(one.weight @ kept)
        tokens += float(one.weight @ one.lengths)
        if isinstance(one, OfDocuments) and (drawn := float(one.weight @ one.sizes)):
            documents += int(one.all.count.sum()) - float(one.weight.sum())
            tokens += float(one.weight @ one.lengths) * (one.whole / drawn - 1)
    return {"documents": max(0, round(documents)), "tokens": round(tokens)}


def _repeated(parts: Sequence[_Part], scale: float, seed: int) -> OrderedLengths:
    """Every document, repeated once for each that it stands for, in a seeded order.

    Predicted lengths are fractions, and are rounded up or down so that their sum stays.
    """
    lengths, source = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for part in parts:
        reached = np.floor(np.cumsum(part.often) * scale + 0.5).astype(np.int64)
        often = np.diff(reached, prepend=0)
        tokens = np.floor(np.cumsum(np.repeat(part.lengths, often)) + 0.5)
        lengths.append(np.diff(tokens, prepend=0).astype(np.int32))
        source.append(np.full(len(lengths[-1]), part.source))
    order = permutation(sum(map(len, lengths)), seed, Purpose.DOCUMENTS, 0, 0)
    return OrderedLengths(np.concatenate(lengths)[order], np.concatenate(source)[order])


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
    exact, exposure = exact_of(settings), answer.exposure
    weighting = weigh(exposure, exact)
    tail = [row.in_tail for row in weighting.table.rows]
    return Row(
        settings=settings,
        exposure=exposure,
        weighting=weighting,
        command=command,
        intervals=_intervals(answer, exact, tail),
    )


def _intervals(answer: _Answer, exact: Exact, tail: Sequence[bool]) -> IntervalsJson:
    exposure, errors = answer.exposure, answer.errors
    if answer.reason is not None:
        return {
            "level": LEVEL,
            "windows": None,
            "tokens": None,
            "mean_weight": None,
            "shares": [None] * len(tail),
            "reason": answer.reason,
        }

    def mean_weight(histogram: Floats) -> float:
        return _mean_weight(histogram, exposure.window, exact)

    low, high = errors.of_tokens(exposure.windows)
    mean = errors.of_weight(mean_weight, tail)
    shares = errors.shares()
    return {
        "level": LEVEL,
        "windows": [math.floor(low), math.ceil(high)],
        "tokens": list(errors.of_tokens(exposure.tokens)),
        "mean_weight": None if mean is None else list(mean),
        "shares": [None if share is None else list(share) for share in shares],
        "reason": None,
    }


def _mean_weight(histogram: NDArray[np.float64], window: int, exact: Exact) -> float:
    """The mean weight of a histogram's targets; 1 where there are none."""
    counts = np.rint(histogram).astype(np.int64)
    weights = weight_table(counts.tolist(), window, exact).weights
    targets = int(counts.sum())
    return float(counts @ np.array(weights)) / targets if targets else 1.0
