"""What work units find wrong in the files that they read, so that the first by order is told.

A unit that fails ends its job at once, and which one is first is chance. Where the units are the
files of a set, a person is better told of the first file: it is the same one every time, on any
runner. So a unit writes down what is wrong, and only the units after it do nothing more.
"""

from dataclasses import dataclass

from ...schemas.errors import FormatError
from ..files.json_files import read_json, write_json
from ..files.storage import Folder
from .folder import JOB

__all__ = ["Mistakes"]

WRONG = f"{JOB}/wrong"


@dataclass(frozen=True)
class Mistakes:
    """What is wrong with the values of a job, by their places in the order.

    Attributes:
        folder: path or URL of the folder that the job writes.
    """

    folder: str

    def forget(self) -> None:
        """Begins anew: what was wrong may have been mended since."""
        folder = Folder(self.folder)
        folder.remove_all(folder.names(WRONG))

    def before(self, place: int) -> bool:
        """Whether something is wrong with an earlier value."""
        return any(found < place for found in self._places())

    def note(self, place: int, error: FormatError) -> None:
        """Writes down what is wrong with a value."""
        told = {
            "found": error.found,
            "expected": error.expected,
            "where": error.where,
            "fix": error.fix,
        }
        write_json(Folder(self.folder), f"{WRONG}/{place}.json", told)

    def raise_first(self) -> None:
        """Raises the error of the first value with which something is wrong.

        Raises:
            FormatError: there is one.
        """
        places = self._places()
        if places:
            told = read_json(Folder(self.folder), f"{WRONG}/{min(places)}.json", ("found",))
            raise FormatError(told.pop("found"), **told)

    def _places(self) -> list[int]:
        names = Folder(self.folder).names(WRONG)
        return [int(name.rpartition("/")[2].removesuffix(".json")) for name in names]
