"""What can be broken in the program on purpose, to see that the campaign finds it."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from exactcpt.schemas import disk

__all__ = ["BREAKS", "apply"]


def _no_sync() -> None:
    """Nothing is synced."""
    os.__dict__["fsync"] = lambda _: None


def _no_folder_sync() -> None:
    """Files are synced, folders are not."""
    disk.__dict__["sync_folder"] = lambda _: None


def _no_temporary() -> None:
    """Files are written under their own names."""

    @contextmanager
    def written_in_place(target: Path) -> Generator[Path]:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield target
        disk.sync_file(target)
        disk.sync_folder(target.parent)

    disk.__dict__["written_whole"] = written_in_place


BREAKS: dict[str, Callable[[], None]] = {
    "": lambda: None,
    "no sync": _no_sync,
    "no folder sync": _no_folder_sync,
    "no temporary": _no_temporary,
}


def apply(name: str) -> None:
    """Breaks the program in this process, before its modules are imported."""
    BREAKS[name]()
