"""How a unit of work ends the whole job, on any runner, with an error a person can read.

A runner reports a failed unit late, after its other units, as the last line of a long traceback. So
a unit that cannot go on writes its error into the job's folder. The other units do nothing from
then on, and whoever waits for the job sees the file within seconds.
"""

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...schemas.errors import BackendDifferenceError, ExactcptError
from ..files.storage import Folder

__all__ = ["Guard", "HaltWatch", "HaltedError", "clear_halt", "disk_error", "read_halt"]

NAME = ".job/halt.json"
REMOTE_SECONDS = 5.0
"""Between two looks at an object store: they are slow, and some are paid for."""


class HaltedError(Exception):
    """A unit has ended the job."""


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
        """Calls the function.

        Raises:
            HaltedError: another unit has ended the job, or this one with what is no Exception, such
                as a panic of a Rust library; Beam's workers would wait for ever for that.
        """
        folder = Folder(self.folder)
        if folder.exists(NAME):
            raise HaltedError("another unit has ended the job")
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
    except OSError:  # the disk that is full; the runner's own report has to do
        return


def _describe(error: BaseException) -> dict[str, str | None]:
    if isinstance(error, BackendDifferenceError):
        return {"difference": str(error)}
    if isinstance(error, OSError):
        error = disk_error(error)
    elif not isinstance(error, ExactcptError):
        error = ExactcptError(
            f"internal error: {type(error).__name__}: {error}", fix="see --debug; report it"
        )
    return {
        "found": error.found,
        "expected": error.expected,
        "where": error.where,
        "fix": error.fix,
    }


def disk_error(error: OSError) -> ExactcptError:
    """An error of the disk or the network, with the file it is about."""
    return ExactcptError(
        f"reading or writing failed: {error.strerror or error}",
        where=str(error.filename) if error.filename else None,
        fix=(
            "make room or mend the storage, and run the same command again: it goes on where it "
            "stopped"
        ),
    )


def read_halt(folder: Folder) -> None:
    """Raises what a unit has ended the job with, if one has; its traceback is the error's cause.

    Raises:
        BackendDifferenceError: the tokenizer backends differ.
        ExactcptError: anything else.
    """
    if not folder.exists(NAME):
        return
    halt = json.loads(folder.read(NAME))
    cause = HaltedError(halt.pop("traceback"))
    if "difference" in halt:
        raise BackendDifferenceError(halt["difference"]) from cause
    raise ExactcptError(halt.pop("found"), **halt) from cause


class HaltWatch:
    """Looks for a halt whenever it is called, at an object store only now and then."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._pause = 0.0 if folder.is_local else REMOTE_SECONDS
        self._next = 0.0

    def __call__(self) -> None:
        """Raises what a unit has ended the job with, if one has."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + self._pause
            read_halt(self._folder)


def clear_halt(folder: Folder) -> None:
    """Lets units work again."""
    folder.remove(NAME)
