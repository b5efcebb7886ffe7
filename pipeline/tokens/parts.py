"""The parts of a split: how many there are, and which of them still have to be written.

A split of the input becomes one part, or several if it is compressed or larger than it seemed.
A part with a summary is complete and is kept when a job is run again. A summary of the other
backend does not count, so that a job which falls back never mixes the two.
"""

from collections.abc import Iterator, Mapping
from itertools import count

from ...schemas import store as store_format
from ..beam.metrics import note_done
from ..core.choices import Backend
from ..files.storage import Folder
from ..sources.reading import join_small, read_member
from ..sources.records import Batch
from ..sources.splits import Split
from .backend import kept_choice
from .builder import PartBuilder, Summary, read_summary
from .cores import work_unit
from .encoders import Encoder, shared_encoder
from .task import TokenizeTask

__all__ = ["write_parts"]


@work_unit()
def write_parts(
    split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]
) -> None:
    """Writes the parts of a split that are not there yet.

    Args:
        split: what to read.
        task: how to tokenize.
        newlines: by URL, how many newlines precede each byte offset at which a member begins.

    Raises:
        BadFileError: an input file is truncated or corrupt. Parts already written stay.
        BackendDifferenceError: gigatoken and the reference differ.
    """
    store = Folder(task.store)
    backend = task.tokenizer.backend
    if _is_complete(store, split, backend):
        return
    for piece, batches in enumerate(_pieces(_read(split, task, newlines), task.split_bytes)):
        ordinal = _part_ordinal(split, piece)
        if _summary(store, ordinal, backend) is not None:
            for _ in batches:  # the next part begins where this one ends
                pass
            continue
        builder = PartBuilder(split.source, task, *_encoders(task))
        for batch in join_small(batches):
            builder.add(batch)
        if _is_outdated(store, backend):
            return
        written = builder.write(store, ordinal, members=len(split.members), last=batches.is_last)
        note_done(
            documents=written["documents"],
            tokens=written["tokens"],
            text_bytes=written["text_bytes"],
            rejected_records=sum(written["rejected"].values()),
            dropped_documents=sum(written["dropped"].values()),
        )


def _is_complete(store: Folder, split: Split, backend: Backend) -> bool:
    for piece in count():
        summary = _summary(store, _part_ordinal(split, piece), backend)
        if summary is None:
            return False
        if summary["last"]:
            return True
    return False


def _summary(store: Folder, ordinal: str, backend: Backend) -> Summary | None:
    """The summary of a complete part; None if it has none, or one of the other backend."""
    name = store_format.summary_name(ordinal)
    summary = read_summary(store, name) if store.exists(name) else None
    # A summary without "encoding" is from a version that did not count it.
    usable = summary and summary["backend"] == backend and "encoding" in summary
    return summary if usable else None


def _part_ordinal(split: Split, piece: int) -> str:
    return f"{split.ordinal:06d}-{piece:04d}"


def _read(
    split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]
) -> Iterator[Batch]:
    for member in split.members:
        before = newlines.get(member.file.url, {}).get(member.start, 0)
        yield from read_member(member, task.fields[split.source], before)


def _pieces(batches: Iterator[Batch], size: int) -> "Iterator[_Piece]":
    """Cuts batches into one or more pieces of at least `size` bytes, except for the last."""
    ahead = _Lookahead(batches)
    while True:
        piece = _Piece(ahead, size)
        yield piece
        if not ahead.has_next:
            return


class _Piece:
    """The batches of one part; `is_last` is valid once they are used up."""

    def __init__(self, batches: "_Lookahead", size: int) -> None:
        self._batches, self._size = batches, size
        self.is_last = False

    def __iter__(self) -> Iterator[Batch]:
        filled = 0
        while filled < self._size and self._batches.has_next:
            batch = self._batches.take()
            filled += batch.content.nbytes
            yield batch
        self.is_last = not self._batches.has_next


class _Lookahead:
    """An iterator that can tell whether it has another batch."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._next = next(batches, None)

    @property
    def has_next(self) -> bool:
        return self._next is not None

    def take(self) -> Batch:
        batch, self._next = self._next, None
        assert batch is not None
        self._next = next(self._batches, None)
        return batch


def _encoders(task: TokenizeTask) -> tuple[Encoder, Encoder | None]:
    """The encoder, and the reference to compare it with if the task asks for that."""
    encoder = shared_encoder(task.tokenizer)
    return encoder, shared_encoder(task.tokenizer, "tokenizers") if task.check else None


def _is_outdated(store: Folder, backend: Backend) -> bool:
    """Whether the job has changed its backend, and this is a worker it could not stop."""
    kept = kept_choice(store)
    return kept is not None and kept[0] != backend
