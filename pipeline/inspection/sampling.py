"""A seeded sample of the documents of raw corpora, tokenized.

Input that can be read in pieces (ranges of plain JSON lines, row groups, many small files) is
divided into blocks, and a fraction of them, at least one per source, is read. A file that has to be
read from its beginning, such as a compressed one, is read as a whole, but only a fraction of its
documents, chosen by their content, is tokenized. Each document has about the same chance to be in
the sample.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ...schemas.errors import BackendDifferenceError, ExactcptError
from ..core.choices import Backend
from ..core.shuffle import Purpose, mix, permutation
from ..sources.reading import read_member
from ..sources.records import Batch
from ..sources.splits import Split, make_splits
from ..tokens.documents import encode_documents
from ..tokens.encoders import Encoder, assemble, borrow_encoder
from ..tokens.hashes import content_hashes, hash_prefixes
from ..tokens.plan import TokenizePlan
from ..tokens.tokenizer import TokenizerSpec

__all__ = ["Sampled", "draw"]

SMALLEST_BLOCK, LARGEST_BLOCK = 64 << 10, 4 << 20
BLOCKS = 200
"""About how many blocks of a source are sampled, if it has enough text; and how many blocks the
documents of files that are read as a whole are divided into."""
READ = 0
"""Distinguishes the draw of blocks from other draws."""


@dataclass(frozen=True)
class Sampled:
    """The documents that were drawn from a source; shapes [documents].

    Attributes:
        lengths: in tokens, BOS and EOS included.
        prefixes: the first 8 bytes of their content hashes.
        weight: how many documents of the source each one stands for.
        block: the block that each one was read with, 0 .. BLOCKS - 1.
    """

    lengths: NDArray[np.int32]
    prefixes: NDArray[np.uint64]
    weight: NDArray[np.float64]
    block: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> "Sampled":
        return Sampled(
            self.lengths[chosen], self.prefixes[chosen], self.weight[chosen], self.block[chosen]
        )


def draw(plan: TokenizePlan, backend: Backend, fraction: float, seed: int) -> dict[str, Sampled]:
    """Draws from each source, and tokenizes what was drawn.

    Args:
        plan: sources and tokenizer.
        backend: the backend that encodes.
        fraction: the fraction of documents to draw, above 0 and at most 1.
        seed: the seed of the draws.

    Raises:
        BadFileError: a file cannot be read.
        ExactcptError: a document cannot be encoded.
    """
    spec = plan.spec(plan.tokenizer.where, backend)
    with borrow_encoder(spec) as encoder:
        try:
            return {
                name: _Drawing(plan, name, encoder, spec, fraction, seed).run(number)
                for number, name in enumerate(plan.files)
            }
        except BackendDifferenceError as error:
            raise ExactcptError(str(error), fix="use --tokenizer-backend tokenizers") from None


class _Drawing:
    """Draws from one source."""

    def __init__(
        self,
        plan: TokenizePlan,
        name: str,
        encoder: Encoder,
        spec: TokenizerSpec,
        fraction: float,
        seed: int,
    ) -> None:
        self._plan, self._name, self._encoder, self._spec = plan, name, encoder, spec
        self._fraction, self._seed = fraction, seed
        self._found: list[Sampled] = []

    def run(self, number: int) -> Sampled:
        """Draws from the source, which has this number in the plan."""
        files = self._plan.files[self._name]
        text = sum(file.work for file in files)
        block = min(LARGEST_BLOCK, max(SMALLEST_BLOCK, int(text * self._fraction / BLOCKS)))
        splits = make_splits(files, block)
        whole = [split for split in splits if split.work > 2 * block]
        pieces = [split for split in splits if split.work <= 2 * block]
        wanted = min(len(pieces), max(1, round(self._fraction * len(pieces))))
        order = permutation(len(pieces), self._seed, Purpose.SAMPLE, READ, number)
        for i, at in enumerate(np.sort(order[:wanted]).tolist()):
            self._read(pieces[at], len(pieces) / wanted, i % BLOCKS)
        for split in whole:
            self._read(split, 1 / self._fraction, None)
        empty = np.empty(0)
        found = [Sampled(empty.astype(np.int32), empty.astype(np.uint64), empty, empty.astype(int))]
        found += self._found
        return Sampled(
            *(
                np.concatenate([getattr(one, name) for one in found])
                for name in ("lengths", "prefixes", "weight", "block")
            )
        )

    def _read(self, split: Split, weight: float, block: int | None) -> None:
        for member in split.members:
            for batch in read_member(member, self._plan.fields[self._name]):
                self._add(batch, weight, block)

    def _add(self, batch: Batch, weight: float, block: int | None) -> None:
        ids, content = batch.ids, batch.content
        prefixes = hash_prefixes(content_hashes(content))
        mixed = mix(prefixes, self._seed, Purpose.SAMPLE)
        if block is None:
            limit = max(1, int(Fraction(self._fraction) * (1 << 64)))
            chosen = mixed <= np.uint64(limit - 1)
            ids = ids.filter(pa.array(chosen))
            content, prefixes, mixed = content.select(chosen), prefixes[chosen], mixed[chosen]
        if not len(content):
            return
        is_text = self._plan.fields[self._name].tokens is None
        bos_id = self._plan.bos_id
        if is_text:
            drawn = Batch(ids=ids, content=content)
            content = encode_documents(self._encoder, drawn, self._name, self._spec)
        lengths = assemble(content, bos_id, self._plan.eos_id).lengths
        bare = lengths - 1 - (bos_id is not None)
        kept = (bare > 0) & (bare >= self._plan.config.min_tokens)
        # The low bits, since the high ones have decided what is in the sample.
        blocks = (mixed % np.uint64(BLOCKS)).astype(np.int64)
        self._found.append(
            Sampled(
                lengths.astype(np.int32),
                prefixes,
                np.full(len(lengths), weight),
                blocks if block is None else np.full(len(lengths), block),
            )[kept]
        )
