"""The parts of verification that need nothing of each other, so that many can do them at once.

    a part of the store, opened      a file of the documents table, compared with the store
    some shards, window by window

What they find is put together in their order. So the report does not depend on who does them, and
where: here one after the other, on threads, or on the workers of a cluster.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ...schemas.manifest import Manifest
from .claims import Counts
from .documents import Documents, Rows, compare_documents
from .files import Folder, Meter
from .report import Problems
from .segments import Seen
from .shards import Shards
from .store import Store

__all__ = ["Do", "Found", "Inputs", "Unit", "here", "units_of"]


@dataclass(frozen=True)
class Unit:
    """A part of verification: some files of one kind, by their numbers in the manifest's order."""

    kind: Literal["part", "documents", "shards"]
    start: int
    stop: int


@dataclass(kw_only=True)
class Found:
    """What a unit found.

    Attributes:
        problems: what is wrong, and what was looked at.
        files, bytes: what was read.
        complete: whether all windows could be counted, or the part could be used.
        batches: record batches that were read.
        counts: of windows, by split.
        seen: segments, for the coverage of documents.
        tokens: of a part; see `count_tokens`.
        unusable: parts of the store with which nothing was compared, by their numbers. Why they
            could not be used is told by the units of these parts.
    """

    problems: Problems
    files: int = 0
    bytes: int = 0
    complete: bool = True
    batches: int = 0
    counts: dict[str, Counts] = field(default_factory=dict)
    seen: Seen = field(default_factory=Seen)
    tokens: Counter[str] = field(default_factory=Counter)
    unusable: set[int] = field(default_factory=set)

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong with what was read, and all of it was compared."""
        return not self.problems.findings and not self.unusable


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What units read.

    Attributes:
        shards: path or URL of the shard set.
        manifest: of the shard set.
        documents: its documents; None if its table cannot be used.
        store: the token store, if there is one to compare with.
    """

    shards: str
    manifest: Manifest
    documents: Documents | Rows | None
    store: Store | None

    def do(self, unit: Unit) -> Found:
        """Does a unit."""
        problems, meter = Problems(), Meter()
        found = Found(problems=problems)
        if unit.kind == "part":
            self._check_part(unit.start, found, meter)
        elif unit.kind == "documents":
            assert self.store is not None
            folder = Folder(self.shards, problems, Meter())
            compare_documents(folder, self.manifest, unit.start, self.store, problems)
        else:
            self._check_shards(unit, found, meter)
        found.files, found.bytes = meter.files, meter.done
        if self.store is not None and unit.kind != "part":
            found.unusable = self.store.unusable()
        return found

    def _check_part(self, number: int, found: Found, meter: Meter) -> None:
        assert self.store is not None
        tokens = self.store.check_part(number, found.problems, meter)
        found.complete = tokens is not None
        found.tokens = tokens or Counter()

    def _check_shards(self, unit: Unit, found: Found, meter: Meter) -> None:
        folder = Folder(self.shards, found.problems, meter)
        reader = Shards(folder, self.manifest, self.documents, self.store, found.problems)
        for number in range(unit.start, unit.stop):
            reader.read(number)
        found.complete, found.batches = reader.complete, reader.batches
        found.counts, found.seen = reader.counts, reader.seen()


Do = Callable[[Inputs, Sequence[Unit]], Iterator[Found]]
"""Does units, and gives what they found in their order."""


def here(inputs: Inputs, units: Sequence[Unit]) -> Iterator[Found]:
    """Does units in this thread."""
    return map(inputs.do, units)


def units_of(manifest: Manifest, store: Manifest | None) -> list[Unit]:
    """All units: those of parts, of the documents table, and of shards, in this order."""
    shards = sum(len(entries) for entries in manifest["shards"].values())
    kinds: list[tuple[Literal["part", "documents", "shards"], int]] = [("shards", shards)]
    if store is not None:
        kinds = [
            ("part", len(store["parts"])),
            ("documents", len(manifest["documents"])),
            *kinds,
        ]
    return [Unit(kind, i, i + 1) for kind, n in kinds for i in range(n)]
