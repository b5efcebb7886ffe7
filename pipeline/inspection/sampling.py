"""A seeded sample of the documents of raw corpora, tokenized.

A source is sampled in one of two ways, or its files in both:

    blocks       Input that can be read in pieces (ranges of plain JSON lines, row groups, many
                 small files) is divided into blocks, and a fraction of them is read, with all of
                 their documents. Takes little reading.
    documents    All of the input is read, so that the size of every document is known, and some
                 documents are tokenized, chosen by content and size (`core/drawing.py`). Says much
                 more for the same number of tokens.

Blocks are for input that is large enough (LEAST_BLOCKS, LEAST_TEXT). Everything else, and whatever
has to be read from its beginning anyway, such as compressed files, is read as a whole,
once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import BackendDifferenceError, ExactcptError
from ..config import PackConfig
from ..core.choices import Backend
from ..core.drawing import SizeTable, chances, threshold
from ..core.selection import is_validation
from ..core.shuffle import Purpose, mix, permutation
from ..files.storage import open_input
from ..sources.lines import rest_of_line
from ..sources.reading import read_member
from ..sources.records import Batch
from ..sources.splits import Member, Split, make_splits
from ..tokens.documents import encode_documents
from ..tokens.encoders import Encoder, assemble, shared_encoder
from ..tokens.hashes import content_hashes, hash_prefixes
from ..tokens.plan import TokenizePlan
from ..tokens.tokenizer import TokenizerSpec

__all__ = ["OfBlocks", "OfDocuments", "Sampled", "Strata", "draw"]

SMALLEST_BLOCK, LARGEST_BLOCK = 64 << 10, 4 << 20
BLOCKS = 200
"""About how many blocks of a source are read, if it has enough text."""
LEAST_BLOCKS, LEAST_TEXT = 50, 16 << 20
"""Where the fraction has fewer blocks or bytes of text than this, all is read, and documents are
drawn. Blocks know nothing of the long documents that they lack."""
HELD_BYTES = 256 << 20
"""Text that is held in memory until it is known which documents of it are drawn. If there is more,
it decides for what follows."""
READ = 0
"""Distinguishes the draw of blocks from other draws."""
DOCUMENT_BYTES = 8
"""What a document costs beside its text: it has tokens of its own, and no size of 0."""


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Documents that were drawn and tokenized; shapes [documents].

    Attributes:
        lengths: in tokens, BOS and EOS included; 0 for documents that are dropped.
        sizes: in bytes (of token ids: in ids), with DOCUMENT_BYTES.
        train: whether each is for training; the others are for validation.
        weight: how many documents each one stands for.
        unit: what each was drawn with: its block, or the documents of the same content.
    """

    lengths: NDArray[np.int32]
    sizes: NDArray[np.float64]
    train: NDArray[np.bool_]
    weight: NDArray[np.float64]
    unit: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """How many tokens were made."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def documents(self) -> int:
        """How many of them are not dropped."""
        return int(np.count_nonzero(self.lengths))


@dataclass(frozen=True, kw_only=True)
class OfBlocks(Sampled):
    """All documents of some blocks.

    Attributes:
        block_bytes: of each block that was read, shape [blocks].
        whole: bytes of all blocks.
    """

    block_bytes: NDArray[np.float64]
    whole: float

    @property
    def read(self) -> float:
        """Bytes that were read."""
        return float(self.block_bytes.sum())

    @property
    def tokenized(self) -> float:
        """Bytes that were tokenized, of `whole`."""
        return self.read


@dataclass(frozen=True, kw_only=True)
class OfDocuments(Sampled):
    """Some documents of input that was read as a whole.

    Attributes:
        all, training: the sizes of all documents, and of those for training.
    """

    all: SizeTable
    training: SizeTable

    @property
    def whole(self) -> float:
        """Bytes of all documents."""
        return float(self.all.size.sum())

    @property
    def read(self) -> float:
        """Bytes that were read."""
        return self.whole

    @property
    def tokenized(self) -> float:
        """Bytes that were tokenized."""
        return float(self.sizes.sum())


Strata = Sequence[OfBlocks | OfDocuments]


def draw(
    plan: TokenizePlan, backend: Backend, fraction: float, packing: PackConfig
) -> dict[str, Strata]:
    """Draws from each source, and tokenizes what was drawn.

    Args:
        plan: sources and tokenizer.
        backend: the backend that encodes.
        fraction: the fraction of the text to tokenize, above 0 and at most 1.
        packing: its seed is that of the draws; it says which documents are for training.

    Raises:
        BadFileError: a file cannot be read.
        ExactcptError: a document cannot be encoded.
    """
    spec = plan.spec(plan.tokenizer.where, backend)
    encoder = shared_encoder(spec)
    try:
        return {
            name: _Drawing(plan, name, encoder, spec, fraction, packing).run(number)
            for number, name in enumerate(plan.files)
        }
    except BackendDifferenceError as error:
        raise ExactcptError(str(error), fix="use --tokenizer-backend tokenizers") from None


@dataclass
class _Found:
    """What has been drawn so far, part by part."""

    lengths: list[NDArray[np.int32]] = field(default_factory=lambda: [np.empty(0, np.int32)])
    sizes: list[NDArray[np.float64]] = field(default_factory=lambda: [np.empty(0)])
    train: list[NDArray[np.bool_]] = field(default_factory=lambda: [np.empty(0, bool)])
    weight: list[NDArray[np.float64]] = field(default_factory=lambda: [np.empty(0)])
    prefixes: list[NDArray[np.uint64]] = field(default_factory=lambda: [np.empty(0, np.uint64)])

    def columns(self) -> dict[str, Any]:
        """The fields of `Sampled` but for `unit`."""
        names = ("lengths", "sizes", "train", "weight")
        return {name: np.concatenate(getattr(self, name)) for name in names}


class _Drawing:
    """Draws from one source."""

    def __init__(
        self,
        plan: TokenizePlan,
        name: str,
        encoder: Encoder,
        spec: TokenizerSpec,
        fraction: float,
        packing: PackConfig,
    ) -> None:
        self._plan, self._name, self._encoder, self._spec = plan, name, encoder, spec
        self._fraction, self._packing = fraction, packing

    def run(self, number: int) -> Strata:
        """Draws from the source, which has this number in the plan."""
        files = self._plan.files[self._name]
        text = sum(file.work for file in files)
        block = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, int(text * self._fraction / BLOCKS)))
        splits = make_splits(files, block)
        pieces = [split for split in splits if split.work <= 2 * block]
        wanted = round(self._fraction * len(pieces))
        is_small = wanted < LEAST_BLOCKS or text * self._fraction < LEAST_TEXT
        if is_small or self._fraction >= 1:
            pieces, whole = [], make_splits(files, LARGEST_BLOCK)
        else:
            whole = [split for split in splits if split.work > 2 * block]
        strata: list[OfBlocks | OfDocuments] = []
        if pieces:
            order = permutation(len(pieces), self._packing.seed, Purpose.SAMPLE, READ, number)
            chosen = [pieces[at] for at in np.sort(order[:wanted]).tolist()]
            strata.append(self._blocks(chosen, float(sum(split.work for split in pieces))))
        if whole:
            strata.append(self._documents(whole))
        return strata

    def _blocks(self, chosen: Sequence[Split], whole: float) -> OfBlocks:
        found = _Found()
        unit: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        size = np.array([sum(_owned(member) for member in split.members) for split in chosen])
        weight = whole / max(1.0, float(size.sum()))
        for number, split in enumerate(chosen):
            for batch in self._read(split):
                prefixes = _prefixes(batch)
                self._add(found, batch, prefixes, np.full(len(prefixes), weight))
                unit.append(np.full(len(prefixes), number))
        return OfBlocks(
            **found.columns(),
            unit=np.concatenate(unit),
            block_bytes=size.astype(np.float64),
            whole=whole,
        )

    def _documents(self, splits: Sequence[Split]) -> OfDocuments:
        found, every, training = _Found(), SizeTable(), SizeTable()
        held: list[tuple[Batch, NDArray[np.uint64]]] = []
        waiting, limit = 0, None
        for split in splits:
            for batch in self._read(split):
                sizes, prefixes = _sizes(batch), _prefixes(batch)
                every.add(sizes)
                training.add(sizes[self._is_train(prefixes)])
                held.append((batch, prefixes))
                waiting += batch.content.data.nbytes
                if limit is None and waiting > HELD_BYTES:
                    limit = threshold(every, self._fraction)
                if limit is not None:
                    self._choose(found, held, limit)
                    held.clear()
        self._choose(found, held, threshold(every, self._fraction) if limit is None else limit)
        if len(found.lengths) == 1:  # so few documents that none was drawn: all are
            self._choose(found, held, 0.0)
        unit = np.unique(np.concatenate(found.prefixes), return_inverse=True)[1]
        return OfDocuments(
            **found.columns(),
            unit=unit.astype(np.int64),
            all=every,
            training=training,
        )

    def _choose(
        self, found: _Found, held: Sequence[tuple[Batch, NDArray[np.uint64]]], limit: float
    ) -> None:
        """Draws from the batches that are held, of which the second is the hashes."""
        for batch, prefixes in held:
            chance = chances(_sizes(batch), self._fraction, limit)
            place = mix(prefixes, self._packing.seed, Purpose.SAMPLE) / 2.0**64
            drawn = (place < chance) | (chance == 1)
            if drawn.any():
                content = batch.content.select(drawn)
                ids = batch.ids.filter(pa.array(drawn))
                some = Batch(ids=ids, content=content)
                self._add(found, some, prefixes[drawn], 1 / chance[drawn])

    def _read(self, split: Split) -> Iterator[Batch]:
        for member in split.members:
            yield from read_member(member, self._plan.fields[self._name])

    def _is_train(self, prefixes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        fraction = Fraction(str(self._packing.validation_fraction))
        return ~is_validation(prefixes, fraction, self._packing.seed)

    def _add(
        self,
        found: _Found,
        batch: Batch,
        prefixes: NDArray[np.uint64],
        weight: NDArray[np.float64],
    ) -> None:
        """Tokenizes documents that were drawn."""
        if not len(prefixes):
            return
        content, bos_id = batch.content, self._plan.bos_id
        if self._plan.fields[self._name].tokens is None:
            content = encode_documents(self._encoder, batch, self._name, self._spec)
        lengths = assemble(content, bos_id, self._plan.eos_id).lengths
        bare = lengths - 1 - (bos_id is not None)
        kept = (bare > 0) & (bare >= self._plan.config.min_tokens)
        found.lengths.append(np.where(kept, lengths, 0).astype(np.int32))
        found.sizes.append(_sizes(batch))
        found.train.append(self._is_train(prefixes))
        found.weight.append(weight)
        found.prefixes.append(prefixes)


def _prefixes(batch: Batch) -> NDArray[np.uint64]:
    return hash_prefixes(content_hashes(batch.content))


def _sizes(batch: Batch) -> NDArray[np.float64]:
    return batch.content.lengths.astype(np.float64) + DOCUMENT_BYTES


def _owned(member: Member) -> int:
    """Bytes of a member's records: of a range of lines, those of the lines that begin in it."""
    file = member.file
    if member.stop is None or file.format != "jsonl":
        return member.work
    with open_input(file.url) as stream:

        def next_line(at: int) -> int:
            if not 0 < at < file.work:
                return at
            stream.seek(at - 1)
            rest_of_line(stream, file.work)
            return stream.tell()

        return next_line(member.stop) - next_line(member.start)
