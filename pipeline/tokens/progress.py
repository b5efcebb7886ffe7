"""How far tokenization is, read off the parts that are finished."""

from collections.abc import Sequence

from ..files.storage import Folder
from ..job.progress import Count
from ..sources.splits import Split
from .builder import read_summary

__all__ = ["TokensDone"]


class TokensDone:
    """Counts the tokens of finished parts, for the progress line; reads each summary once.

    The total is an estimate, and is mended by what is known: it has the tokens that are there, and
    of the estimate the share of the splits that are not finished.
    """

    def __init__(self, store: Folder, splits: Sequence[Split], expected: int | None) -> None:
        self._store, self._expected = store, expected
        self._work = {f"{split.ordinal:06d}": max(split.work, 1) for split in splits}
        self._all_work = sum(self._work.values())
        self._seen: dict[str, tuple[bool, int]] = {}

    def __call__(self) -> Count:
        """Looks at the folder."""
        names = [
            name
            for name in self._store.names("parts")
            if name.endswith(".json") and name not in self._seen and "/." not in name
        ]
        summaries = self._store.for_all(names, lambda name: read_summary(self._store, name))
        for name, summary in zip(names, summaries, strict=True):
            self._seen[name] = (summary["last"], summary["tokens"])
        done = sum(tokens for _, tokens in self._seen.values())
        return Count(done, self._total(done), about=True)

    def _total(self, done: int) -> int | None:
        if self._expected is None:
            return None
        finished = {_split_of(name) for name, (last, _) in self._seen.items() if last}
        begun = sum(n for name, (_, n) in self._seen.items() if _split_of(name) not in finished)
        left = sum(work for split, work in self._work.items() if split not in finished)
        return done + max(int(self._expected * left / max(self._all_work, 1)) - begun, 0)


def _split_of(name: str) -> str:
    """The ordinal of the split that a part is of, from the name of its summary."""
    return name.rpartition("/")[2].partition("-")[0]
