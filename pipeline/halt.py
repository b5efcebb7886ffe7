"""How a unit of work ends the whole job, on any runner, with an error a person can read.

A runner reports a failed unit late, after its other units, and as the last line of a long traceback.
So a unit that cannot go on writes its error into the job's folder. The other units do nothing from then on, and
whoever waits for the job sees the file within a second.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..schemas.errors import ExactcptError
from .storage import Folder
from .tokenization import BackendDifferenceError

__all__ = ["Guard", "HaltedError", "clear_halt", "read_halt"]

NAME = ".job/halt.json"


class HaltedError(Exception):
    """Another unit has ended the job."""


@dataclass(frozen=True)
class Guard:
    """Calls a function for an element unless the job has been halted, and halts it on an error.

    Attributes:
        function: what to call.
        folder: path or URL of the folder that the job writes.
    """

    function: Callable[..., Any]
    folder: str

    def __call__(self, *args: Any) -> Any:
        """Calls the function."""
        folder = Folder(self.folder)
        if folder.exists(NAME):
            raise HaltedError("another unit has ended the job")
        try:
            return self.function(*args)
        except BackendDifferenceError as error:
            folder.write(NAME, json.dumps({"difference": str(error)}).encode())
            raise
        except OSError as error:
            _write_error(folder, disk_error(error))
            raise
        except ExactcptError as error:
            _write_error(folder, error)
            raise


def disk_error(error: OSError) -> ExactcptError:
    """An error of the disk or the network, with the file it is about."""
    return ExactcptError(
        f"reading or writing failed: {error.strerror or error}",
        where=str(error.filename) if error.filename else None,
        fix="make room or mend the storage, and run the same command again: it goes on where it stopped",
    )


def _write_error(folder: Folder, error: ExactcptError) -> None:
    fields = {"expected": error.expected, "where": error.where, "fix": error.fix}
    try:
        folder.write(NAME, json.dumps({"found": error.found, **fields}).encode())
    except OSError:  # the disk that is full; the runner's own report has to do
        return


def read_halt(folder: Folder) -> None:
    """Raises what a unit has ended the job with, if one has.

    Raises:
        BackendDifferenceError: the tokenizer backends differ.
        ExactcptError: anything else.
    """
    if not folder.exists(NAME):
        return
    halt = json.loads(folder.read(NAME))
    if "difference" in halt:
        raise BackendDifferenceError(halt["difference"])
    raise ExactcptError(halt.pop("found"), **halt)


def clear_halt(folder: Folder) -> None:
    """Lets units work again."""
    folder.remove(NAME)
