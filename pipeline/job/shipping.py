"""What many work units of an attempt need, on its way to the workers.

A graph that describes every file and part would be too large for engines. It has the name and the
digest of a file in the job's folder instead, which describes them. The digest makes sure that a
worker loads what the job has written and nothing else: loading can run code.
"""

import hashlib
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import zstandard

from ...schemas.errors import FormatError
from ..files.storage import Folder
from .attempt import Attempt, OverError

__all__ = ["Item", "Shipped", "ship"]

T = TypeVar("T")


@dataclass(frozen=True)
class Shipped(Generic[T]):
    """A value that workers read from a file of the attempt.

    Attributes:
        folder: path or URL of the file's folder.
        name: the file.
        digest: SHA-256 of the file, in hexadecimal digits.
    """

    folder: str
    name: str
    digest: str

    @property
    def value(self) -> T:
        """The value; a process reads it once.

        Raises:
            OverError: the file is gone, and so is the attempt.
            FormatError: the file is not what was written.
        """
        return _value(self)


@dataclass(frozen=True)
class Item(Generic[T]):
    """One of the values of a sequence that is shipped as a whole."""

    values: Shipped[Sequence[T]]
    index: int

    @property
    def value(self) -> T:
        """See `Shipped.value`."""
        return self.values.value[self.index]


def ship(value: T, attempt: Attempt) -> Shipped[T]:
    """Writes a value to a file that lasts as long as the attempt does."""
    data = zstandard.compress(pickle.dumps(value))
    digest = hashlib.sha256(data).hexdigest()
    return Shipped(attempt.folder, attempt.keep(digest, data), digest)


@lru_cache(maxsize=8)
def _value(shipped: Shipped[Any]) -> Any:
    folder = Folder(shipped.folder)
    data = folder.read_if_there(shipped.name)
    if data is None:
        raise OverError("the job that this work unit belongs to is over")
    if hashlib.sha256(data).hexdigest() != shipped.digest:
        raise FormatError(
            "a file that a job keeps has changed while it runs",
            where=folder.url_of(shipped.name),
            fix="run the same command again, and nothing else in that folder",
        )
    return pickle.loads(zstandard.decompress(data))
