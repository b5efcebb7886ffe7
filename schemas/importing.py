"""Importing large libraries in a fraction of their time."""

import gc
import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from typing import Any

__all__ = ["import_to_stay", "keep_pandas_out_of_pyarrow", "unseen"]


def import_to_stay(name: str) -> None:
    """Imports a module, and what it imports, without garbage collection.

    Modules stay. To look for garbage in them, again and again while they are made, takes a quarter
    of the time of an import. Afterwards the collector leaves out what is there.
    """
    if name in sys.modules:
        return
    gc.disable()
    try:
        import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def keep_pandas_out_of_pyarrow() -> None:
    """Lets pyarrow convert without pandas, as long as the process lives.

    Its first conversion imports pandas where it is installed, to know its missing values, and never
    looks again. That takes longer than the import of pyarrow. Not for a process that may convert
    values of pandas.
    """
    import_to_stay("pyarrow")
    with unseen(("pandas",)):
        sys.modules["pyarrow"].array([0])


@contextmanager
def unseen(names: Sequence[str]) -> Generator[None]:
    """Hides modules from the imports of a block, as if they were not installed.

    For libraries that import what is there, whether it is used or not. Modules that are imported
    already are seen, and so is everything by other threads.
    """
    finder: Any = _Hidden(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Hidden(MetaPathFinder):
    def __init__(self, names: Sequence[str]) -> None:
        self._names, self._thread = frozenset(names), threading.get_ident()

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname in self._names and threading.get_ident() == self._thread:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
