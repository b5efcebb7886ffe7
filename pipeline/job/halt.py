"""How one work unit ends the whole job, on any runner, with an error that a person can read.

A runner reports a failed unit late: after all other units, at the end of a long traceback. So a
unit that fails notes its error in the job's folder. From then on the other units do nothing, and
the process that waits for the job sees it within seconds.

An error that may pass, such as that of a busy server, ends nothing at first: the unit is run again
after a pause. After its last try it ends the job, unless an engine runs failed units again itself.
"""

import errno
import random
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ...schemas.disk_errors import disk_error
from ...schemas.errors import BackendDifferenceError, ExactcptError
from ...schemas.remote_errors import is_passing
from ..files.publishing import publishing_only_if
from ..files.storage import Folder
from .attempt import Attempt, OverError
from .seldom import Seldom

__all__ = ["Guard", "HaltWatch", "HaltedError", "internal_error", "read_halt"]

PAUSES = (5.0, 20.0)
"""Seconds before the further tries of a unit, at least. Each request of its own had several within
ten seconds."""


class HaltedError(Exception):
    """A work unit has ended the job."""


@dataclass(frozen=True)
class Guard:
    """Calls a function for an element unless the attempt has ended, and ends it on an error.

    Attributes:
        function: the function to call. It may be called again after an error, for the same element.
        attempt: what it belongs to.
        work: what the function does, in words.
    """

    function: Callable[..., Any]
    attempt: Attempt
    work: str = ""

    def __call__(self, *args: Any) -> Any:
        """Calls the function.

        Raises:
            OverError: the attempt is over. This is told to nobody but the runner.
            HaltedError: another unit has ended the attempt, or this one has raised something that
                is not an Exception, such as a panic of a Rust library, on which Beam's workers
                would wait forever.
        """
        for pause in chain(PAUSES, [None]):
            try:
                return self._try(args)
            except (OverError, HaltedError):
                raise
            except Exception as error:
                self._raise_if_over(error)
                if pause is None or not is_passing(error):
                    self._note(error)
                    raise
            except BaseException as error:
                self._note(error)
                raise HaltedError(f"{type(error).__name__}: {error}") from error
            time.sleep(pause * random.uniform(1, 1.5))
        raise AssertionError("the last try returns or raises")

    def _try(self, args: tuple[Any, ...]) -> Any:
        if self.attempt.is_halted():
            raise HaltedError("another work unit has ended the job")
        with publishing_only_if(self.attempt.require_current):
            return self.function(*args)

    def _raise_if_over(self, error: Exception) -> None:
        """An attempt that is over has lost files under its hands: its errors say nothing."""
        try:
            self.attempt.require_current()
        except OverError:
            raise OverError(
                f"the job is over; this unit's error is of no account: {error}"
            ) from error
        except OSError:
            return  # nobody knows

    def _note(self, error: BaseException) -> None:
        details = "".join(traceback.format_exception(error))
        ends = not (self.attempt.engine_retries and _may_work_elsewhere(error))
        told = {**_describe(error), "traceback": details}
        if self.attempt.engine_retries and "difference" not in told:
            work = f" at {self.work!r}" if self.work else ""
            told["machine"] = f"{socket.gethostname()}, a worker of {self.attempt.engine}{work}"
        self.attempt.note(told, ends=ends)


def _may_work_elsewhere(error: BaseException) -> bool:
    """Whether an error may be one of the worker's machine, which says nothing about the others."""
    is_of_disk = isinstance(error, OSError) and error.errno == errno.EIO
    return is_of_disk or is_passing(error) or isinstance(error, MemoryError)


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


def read_halt(attempt: Attempt, failure: BaseException | None = None) -> None:
    """Raises the error with which a unit has ended an attempt, if one has.

    The cause of the error has the traceback of the unit.

    Args:
        attempt: the attempt.
        failure: why the runner has given up. If that was an error of a unit which it could have
            passed over, the error counts, too.

    Raises:
        BackendDifferenceError: the tokenizer backends differ.
        ExactcptError: anything else.
    """
    halt = attempt.noted() or _trouble(attempt, failure)
    if halt is None:
        return
    cause = HaltedError(halt.pop("traceback"))
    if "difference" in halt:
        raise BackendDifferenceError(halt["difference"]) from cause
    raise ExactcptError(halt.pop("found"), **halt) from cause


def _trouble(attempt: Attempt, failure: BaseException | None) -> dict[str, Any] | None:
    """The last error that an engine could pass over, if that is why it has given up."""
    trouble = None if failure is None else attempt.noted(also_trouble=True)
    if trouble is None:
        return None
    *_, told = trouble["traceback"].strip().splitlines()
    return trouble if told in str(failure) else None


class HaltWatch:
    """Checks for a halt whenever it is called; on an object store only now and then."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._seldom = Seldom(Folder(attempt.folder))

    def __call__(self) -> None:
        """Raises the error with which a unit has ended the attempt, if one has."""
        if self._seldom.is_due():
            read_halt(self._attempt)
