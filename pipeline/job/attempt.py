"""One attempt at a job: one run of its graph, which ends before the next one begins.

    .job/attempts/NAME             there while the attempt lasts
    .job/attempts/NAME.halt        the error of a unit, which ends it
    .job/attempts/NAME.trouble     the last error of a unit that the engine may run again
    .job/attempts/NAME.DIGEST      what the units share; see `shipping`

The process that waits for a graph may be killed while an engine goes on with its units. The next
attempt has another name. So a unit sees whether its own is over, and its error never meets a later
one.
"""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ..files.json_files import read_json
from ..files.storage import Folder

__all__ = ["OVER", "Attempt", "OverError", "attempt_at"]

ATTEMPTS = ".job/attempts"
HALT = ".halt"
TROUBLE = ".trouble"


OVER = "the job that this work unit belongs to is over"


class OverError(Exception):
    """The attempt that a work unit belongs to is over: nobody waits for what it does."""


@dataclass(frozen=True)
class Attempt:
    """One run of a graph.

    Attributes:
        folder: path or URL of the folder that the job writes.
        name: of the attempt; no two have the same.
        engine: what runs the graph, by Beam's name for it; None for this process and its own.
    """

    folder: str
    name: str
    engine: str | None

    @property
    def engine_retries(self) -> bool:
        """Whether a failed unit is run again by whatever runs the graph."""
        return self.engine is not None

    @property
    def _path(self) -> str:
        return f"{ATTEMPTS}/{self.name}"

    def is_halted(self) -> bool:
        """Whether an error of a unit has ended the attempt.

        Raises:
            OverError: it is over, because its job has ended or a later attempt has begun.
        """
        self.require_current()
        return Folder(self.folder).exists(self._path + HALT)

    def require_current(self) -> None:
        """Raises an OverError if the attempt is over."""
        # By its name, which is new: a shared disk may show a listing of some seconds ago.
        if not Folder(self.folder).exists(self._path):
            raise OverError(OVER)

    def keep(self, name: str, data: bytes) -> str:
        """Writes a file that lasts as long as the attempt does; returns its name in the folder."""
        path = f"{self._path}.{name}"
        Folder(self.folder).write(path, data)
        return path

    def note(self, error: dict[str, Any], *, ends: bool) -> None:
        """Writes down the error of a unit.

        Args:
            error: as JSON.
            ends: whether it ends the attempt.
        """
        name = self._path + (HALT if ends else TROUBLE)
        with suppress(OSError):  # perhaps the disk is full; the runner's own report has to do
            Folder(self.folder).write(name, json.dumps(error).encode())

    def noted(self, *, also_trouble: bool = False) -> dict[str, Any] | None:
        """The error that has ended the attempt, if one has.

        Args:
            also_trouble: whether else the last one counts that did not.
        """
        folder = Folder(self.folder)
        for kind in (HALT, TROUBLE) if also_trouble else (HALT,):
            if folder.read_if_there(self._path + kind) is not None:
                return read_json(folder, self._path + kind, ("traceback",))
        return None


@contextmanager
def attempt_at(folder: Folder, *, engine: str | None) -> Iterator[Attempt]:
    """An attempt that lasts until the end of the block; earlier ones that were left are over.

    Args:
        folder: the folder that the job writes; must be locked.
        engine: see `Attempt`.
    """
    folder.remove_all(folder.names(ATTEMPTS))
    attempt = Attempt(folder.url, uuid.uuid4().hex, engine)
    folder.write(f"{ATTEMPTS}/{attempt.name}", b"")
    try:
        yield attempt
    finally:
        with suppress(Exception):  # drivers raise any class; the next attempt removes it
            folder.remove_all([name for name in folder.names(ATTEMPTS) if attempt.name in name])
