"""What work units find wrong in the files that they read, so that the first by order is told.

A unit that fails ends its job at once, and which one is first is chance. Where the units are the
files of a set, a person is better told of the first file: it is the same one every time, on any
runner. So a unit writes down what is wrong, and only the units after it do nothing more.

    .job/wrong/NAME/PLACE.json     what is wrong with a value

A process asks a server only now and then what others have written. Until it knows of a mistake it
does work that nobody needs; no unit before the first mistake is left out.
"""

import math
import uuid
from dataclasses import dataclass, field
from functools import lru_cache

from ...schemas.errors import FormatError
from ..files.json_files import read_json, write_json
from ..files.storage import Folder
from .folder import JOB
from .seldom import Seldom

__all__ = ["Mistakes"]

WRONG = f"{JOB}/wrong"


@dataclass(frozen=True)
class Mistakes:
    """What is wrong with the values of a job, by their places in the order.

    Attributes:
        folder: path or URL of the folder that the job writes.
        name: of this run of the job. No two have the same, so that a worker that outlives one run
            does not take its mistakes, which may have been mended, for those of the next.
    """

    folder: str
    name: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def _path(self) -> str:
        return f"{WRONG}/{self.name}"

    def forget(self) -> None:
        """Removes what is written down, by earlier runs too."""
        folder = Folder(self.folder)
        folder.remove_all(folder.names(WRONG))
        folder.remove_empty_below(WRONG)
        folder.remove_if_empty(WRONG)

    def before(self, place: int) -> bool:
        """Whether something is known to be wrong with an earlier value."""
        return _known(self).first() < place

    def note(self, place: int, error: FormatError) -> None:
        """Writes down what is wrong with a value."""
        told = {
            "found": error.found,
            "expected": error.expected,
            "where": error.where,
            "fix": error.fix,
        }
        write_json(Folder(self.folder), f"{self._path}/{place}.json", told)

    def raise_first(self) -> None:
        """Raises the error of the first value with which something is wrong.

        Raises:
            FormatError: there is one.
        """
        first = self.first()
        if first is not None:
            told = read_json(Folder(self.folder), f"{self._path}/{first}.json", ("found",))
            raise FormatError(told.pop("found"), **told)

    def first(self) -> int | None:
        """The place of the first value with which something is wrong, if there is one."""
        names = Folder(self.folder).names(self._path)
        places = (int(name.rpartition("/")[2].removesuffix(".json")) for name in names)
        return min(places, default=None)


class _Known:
    """What a process knows of the mistakes of a run."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._seldom = Seldom(Folder(mistakes.folder))
        self._first: float = math.inf

    def first(self) -> float:
        """The place of the first mistake; infinity if none is known."""
        if self._seldom.is_due():
            found = self._mistakes.first()
            self._first = math.inf if found is None else found
        return self._first


@lru_cache(maxsize=8)
def _known(mistakes: Mistakes) -> _Known:
    """The one that all units of a run share in a process."""
    return _Known(mistakes)
