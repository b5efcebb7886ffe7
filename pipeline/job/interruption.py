"""SIGTERM ends a job as Ctrl-C does, whatever the main thread is doing.

Python raises KeyboardInterrupt wherever the main thread is. In a callback of the interpreter, such
as a destructor or the release of an import lock, the exception is printed and lost. So the signal
is also remembered, and the loop that waits for a job asks for it.
"""

import signal
import threading
from types import FrameType

__all__ = ["end_on_signals", "raise_if_interrupted", "stop_interrupting"]

_received = threading.Event()


def end_on_signals() -> None:
    """Lets SIGINT and SIGTERM interrupt this process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)


def stop_interrupting() -> None:
    """Lets SIGINT and SIGTERM end this process at once: its work is done, and there is no more to
    say. A KeyboardInterrupt in what Python calls at the exit would be printed with its traceback.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def raise_if_interrupted() -> None:
    """Raises KeyboardInterrupt if a signal has been received."""
    if _received.is_set():
        raise KeyboardInterrupt


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _received.set()
    raise KeyboardInterrupt
