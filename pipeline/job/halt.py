"""How one work unit ends the whole job, on any runner, with an error that a person can read.

A runner reports a failed unit late: after all other units, at the end of a long traceback. So a
unit that fails writes its error into the job's folder. From then on the other units do nothing, and
the process that waits for the job sees the file within seconds.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...schemas.disk_errors import disk_error
from ...schemas.errors import BackendDifferenceError, ExactcptError
from ..files.json_files import read_json
from ..files.storage import Folder

__all__ = [
    "Guard",
    "HaltWatch",
    "HaltedError",
    "clear_halt",
    "internal_error",
    "read_halt",
]

NAME = ".job/halt.json"
REMOTE_SECONDS = 5.0
"""Time between two checks on an object store: requests are slow, and some cost money."""


class HaltedError(Exception):
    """A work unit has ended the job."""


@dataclass(frozen=True)
class Guard:
    """Calls a function for an element unless the job has been halted, and halts it on an error.

    Attributes:
        function: the function to call.
        folder: path or URL of the job's output folder.
    """

    function: Callable[..., Any]
    folder: str

    def __call__(self, *args: Any) -> Any:
        """Calls the function.

        Raises:
            HaltedError: another unit has ended the job, or this one has raised something that is
                not an Exception, such as a panic of a Rust library, on which Beam's workers would
                wait forever.
        """
        folder = Folder(self.folder)
        if folder.read_if_there(NAME) is not None:
            raise HaltedError("another work unit has ended the job")
        try:
            return self.function(*args)
        except BaseException as error:
            _halt(folder, error)
            if isinstance(error, Exception):
                raise
            raise HaltedError(f"{type(error).__name__}: {error}") from error


def _halt(folder: Folder, error: BaseException) -> None:
    details = "".join(traceback.format_exception(error))
    try:
        folder.write(NAME, json.dumps({**_describe(error), "traceback": details}).encode())
    except OSError:  # perhaps the disk is full; the runner's own report has to do
        return


def _describe(error: BaseException) -> dict[str, str | None]:
    if isinstance(error, BackendDifferenceError):
        return {"difference": str(error)}
    if isinstance(error, OSError):
        error = disk_error(error)
    elif not isinstance(error, ExactcptError):
        error = internal_error(error)
    return {
        "found": error.found,
        "expected": error.expected,
        "where": error.where,
        "fix": error.fix,
    }


def internal_error(error: BaseException) -> ExactcptError:
    """An error that the program does not expect, in words."""
    return ExactcptError(
        f"internal error: {type(error).__name__}: {error}",
        fix="run it again with --debug, and report the traceback",
    )


def read_halt(folder: Folder) -> None:
    """Raises the error with which a unit has ended the job, if one has.

    The cause of the error has the traceback of the unit.

    Raises:
        BackendDifferenceError: the tokenizer backends differ.
        ExactcptError: anything else.
    """
    if folder.read_if_there(NAME) is None:
        return
    halt = read_json(folder, NAME, ("traceback",))
    cause = HaltedError(halt.pop("traceback"))
    if "difference" in halt:
        raise BackendDifferenceError(halt["difference"]) from cause
    raise ExactcptError(halt.pop("found"), **halt) from cause


class HaltWatch:
    """Checks for a halt whenever it is called; on an object store only now and then."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pause = 0.0 if folder.is_local else REMOTE_SECONDS
        self._next = 0.0

    def __call__(self) -> None:
        """Raises the error with which a unit has ended the job, if one has."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._pause
            read_halt(self._folder)


def clear_halt(folder: Folder) -> None:
    """Lets work units run again."""
    folder.remove(NAME)
