"""What is asked of a folder again and again: of an object store only now and then."""

import threading
import time

from ..files.storage import Folder

__all__ = ["Seldom"]

REMOTE_SECONDS = 5.0
"""Time between two questions to a server: requests are slow, and some cost money."""


class Seldom:
    """Says whether it is time to ask a folder again; threads may share one.

    Args:
        folder: a local one may be asked every time.
    """

    def __init__(self, folder: Folder) -> None:
        self._pause = 0.0 if folder.is_local else REMOTE_SECONDS
        self._next = 0.0
        self._lock = threading.Lock()

    def is_due(self) -> bool:
        """Whether to ask now; if so, the next time is a pause later."""
        with self._lock:
            now = time.monotonic()
            if now < self._next:
                return False
            self._next = now + self._pause
            return True
