"""The standard streams, which the caller of the program may have closed, or may close early."""

import io
import os
import sys
from typing import Any

__all__ = ["PatientFile", "settle_streams"]


def settle_streams() -> None:
    """Lets every command print, whatever has become of stdin, stdout and stderr.

    A stream that is closed becomes the null device: otherwise the next file to be opened would get
    its number, and with it what libraries print. A reader that leaves early, such as `head`, ends
    nothing: the command goes on to its own exit code, which tells about its work.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest free number, this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  as long as the program
    sys.stdout = _patient(sys.stdout, 1, "standard output", "strict")
    sys.stderr = _patient(sys.stderr, 2, "standard error", "backslashreplace")


def _patient(stream: Any, number: int, label: str, errors: str) -> io.TextIOWrapper:
    """The stream, or a new one if it is None, over a file that is patient."""
    return io.TextIOWrapper(
        io.BufferedWriter(PatientFile(number, label)),
        encoding="utf-8" if stream is None else stream.encoding,
        errors=errors if stream is None else stream.errors,
        line_buffering=True if stream is None else stream.line_buffering,
    )


class PatientFile(io.FileIO):
    """An open file to write to, whose reader may leave.

    Args:
        number: its descriptor.
        label: how errors name it.
    """

    def __init__(self, number: int, label: str) -> None:
        super().__init__(number, "wb", closefd=False)
        self._label = label

    def write(self, data: Any) -> int | None:
        """Writes bytes; drops them, and all that follow, if nobody reads them any more.

        Raises:
            OSError: it cannot be written, such as a file on a full disk.
        """
        try:
            return super().write(data)
        except BrokenPipeError:
            self._drop_all()
            return memoryview(data).nbytes
        except OSError as error:
            self._drop_all()  # what is still buffered, too: one error is enough
            raise OSError(error.errno, error.strerror, self._label) from None

    def _drop_all(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
