"""The errors that a user can act on, and one that a job handles itself.

ExactcptError            the job failed: exit code 1
├── FormatError          a file is not what it should be
├── IncompleteError      a token store or shard set is not finished
└── UsageError           the command asks for something impossible: exit code 2

BackendDifferenceError   the job encodes everything again with the other tokenizer backend
"""

from .printable import printable

__all__ = [
    "BackendDifferenceError",
    "ExactcptError",
    "FormatError",
    "IncompleteError",
    "UsageError",
]


class ExactcptError(Exception):
    """An error a user can act on: what was found, what was expected, where, and what to do.

    Args:
        found: what is wrong, in one sentence.
        expected: what would have been right.
        where: the file (with line or row), setting or place that it concerns.
        fix: what the user can do now.
        machine: the name of the machine that met it, and at what work, if it is an engine's.
    """

    exit_code = 1

    def __init__(
        self,
        found: str,
        *,
        expected: str | None = None,
        where: str | None = None,
        fix: str | None = None,
        machine: str | None = None,
    ) -> None:
        super().__init__(found)
        self.found, self.expected, self.where, self.fix = found, expected, where, fix
        self.machine = machine

    def __str__(self) -> str:
        """All of it, as a terminal can show it."""
        labels = ("where", "machine", "expected", "fix")
        labelled = [(label, getattr(self, label)) for label in labels]
        lines = [self.found, *(f"  {label + ':':<10}{text}" for label, text in labelled if text)]
        return printable("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        labels = ("expected", "where", "fix", "machine")
        details = {label: getattr(self, label) for label in labels}
        return (_rebuild, (type(self), self.found, details))


class FormatError(ExactcptError):
    """A file is corrupt, of another format, or of a newer version."""


class IncompleteError(ExactcptError):
    """A token store or shard set whose job has not finished."""


class UsageError(ExactcptError):
    """Options that are wrong, contradict each other, or cannot be satisfied."""

    exit_code = 2


def _rebuild(
    kind: type[ExactcptError], found: str, details: dict[str, str | None]
) -> ExactcptError:
    return kind(found, **details)


class BackendDifferenceError(Exception):
    """gigatoken encodes a text differently from the reference, or fails on one."""
