"""The documents of one part of a token store, and what selection decides of each.

index of a part ── training_documents ──> ranks, which quotas follow from
index of a part, quota of its source ── part_documents ──> split and copies of each document
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..core.choices import PackingName
from ..core.selection import Quota, copies, is_validation, rank, rank_bin
from ..core.spans import Spans
from ..tokens.hashes import hash_prefixes
from ..tokens.store import PartIndex, StoredFile

__all__ = [
    "Documents",
    "PartRef",
    "PlanSettings",
    "Ranked",
    "part_documents",
    "training_documents",
]


@dataclass(frozen=True, kw_only=True)
class PartRef:
    """A part of the token store: one tokenized slice of the input, one Arrow file.

    Attributes:
        part: its name.
        source: the source of its documents.
        first_document: index in the store of its first document.
        documents: how many it has.
        tokens: how many its documents have together.
        file: the file with its documents.
        index: the file with its index.
    """

    part: str
    source: str
    first_document: int
    documents: int
    tokens: int
    file: StoredFile
    index: StoredFile


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What a plan depends on besides the store and the quotas.

    Attributes:
        window: the window length L in tokens.
        packing: how documents are packed into windows.
        validation_fraction: of the documents.
        seed: of every order and draw.
    """

    window: int
    packing: PackingName
    validation_fraction: Fraction
    seed: int


@dataclass(frozen=True)
class Documents:
    """The documents of one part and what selection decided; shapes [documents].

    Attributes:
        index: in the store.
        lengths: in tokens.
        validates: whether they are for validation.
        copies: how often they are packed.
        repeated: whether an earlier document has the same content.
        supervised: their supervised spans; None if all tokens are supervised.
    """

    index: NDArray[np.int64]
    lengths: NDArray[np.int32]
    validates: NDArray[np.bool_]
    copies: NDArray[np.int32]
    repeated: NDArray[np.bool_]
    supervised: Spans | None = None


def part_documents(
    part: PartRef,
    part_index: PartIndex,
    quota: Quota,
    repeated: NDArray[np.bool_],
    settings: PlanSettings,
) -> Documents:
    """Decides the split and the copies of each document of a part.

    Args:
        part: the part.
        part_index: its index.
        quota: the quota of its source.
        repeated: whether an earlier document has the same content, shape [documents].
        settings: the fraction for validation, and the seed.
    """
    index = part.first_document + np.arange(part.documents)
    prefixes = hash_prefixes(part_index.hashes)
    validates = is_validation(prefixes, settings.validation_fraction, settings.seed)
    count = np.where(validates, 1, copies(rank(prefixes, settings.seed), index, quota))
    count[repeated] = 0
    return Documents(
        index,
        part_index.lengths,
        validates,
        count.astype(np.int32),
        repeated,
        part_index.supervised,
    )


@dataclass(frozen=True)
class Ranked:
    """Training documents of one source, in any order; shapes [documents].

    Attributes:
        ranks: the lowest are the first to get an additional copy.
        index: in the store.
        lengths: in tokens.
    """

    ranks: NDArray[np.uint64]
    index: NDArray[np.int64]
    lengths: NDArray[np.int32]

    @classmethod
    def joined(cls, some: Sequence["Ranked"]) -> "Ranked":
        """All of them; there must be at least one."""
        return cls(
            np.concatenate([one.ranks for one in some]),
            np.concatenate([one.index for one in some]),
            np.concatenate([one.lengths for one in some]),
        )

    def in_bin(self, number: int) -> "Ranked":
        """The documents whose rank is in a bin; see `selection.rank_bin`."""
        mine = rank_bin(self.ranks) == number
        return Ranked(self.ranks[mine], self.index[mine], self.lengths[mine])


def training_documents(
    part: PartRef, part_index: PartIndex, repeated: NDArray[np.bool_], settings: PlanSettings
) -> Ranked:
    """The training documents of a part that are not repeated; arguments as for `part_documents`."""
    index = part.first_document + np.arange(part.documents)
    prefixes = hash_prefixes(part_index.hashes)
    train = ~is_validation(prefixes, settings.validation_fraction, settings.seed) & ~repeated
    return Ranked(rank(prefixes[train], settings.seed), index[train], part_index.lengths[train])
