"""Where a job may write: never among what it reads, and no folder inside another one."""

import os
from collections.abc import Iterable, Sequence

from ..schemas.errors import UsageError
from .config import SourceConfig
from .storage import Folder, is_local_url, resolve

__all__ = ["refuse_inside_sources", "refuse_one_inside_another"]

MAGIC = frozenset("*?[")


def refuse_one_inside_another(store: Folder, out: Folder) -> None:
    """Token store and shard set are two folders beside each other.

    Raises:
        UsageError: they are one folder, or one is inside the other.
    """
    if _is_inside(store.url, out.url) or _is_inside(out.url, store.url):
        raise UsageError(
            "token store and shard set are one folder, or one is inside the other",
            where=f"--store {store.url}, --out {out.url}",
            expected="two folders beside each other",
        )


def refuse_inside_sources(sources: Iterable[SourceConfig], outputs: Sequence[Folder]) -> None:
    """What a job writes must not be among the files that its sources name the next time.

    Raises:
        UsageError: an output is inside a folder that a source reads whole.
    """
    for source in sources:
        if source.format == "hub" or (root := _whole_folder(source.pattern)) is None:
            continue
        for output in outputs:
            if _is_inside(output.url, root):
                raise UsageError(
                    f"the output would lie inside source {source.name!r}, which reads all of "
                    "its folder",
                    where=f"{output.url} is inside {root}",
                    fix="write beside that folder, or narrow the source with a glob: DIR/*.jsonl",
                )


def _whole_folder(pattern: str) -> str | None:
    """The folder that a pattern reads with all its subfolders; None if it is no such pattern."""
    if "**" in pattern:
        before = pattern[: pattern.index("**")]
        return None if MAGIC & set(before) else before.rstrip("/") or "."
    return None if MAGIC & set(pattern) else pattern


def _is_inside(inner: str, outer: str) -> bool:
    """Whether a folder is another one or below it, whatever their spelling."""
    return f"{_canonical(inner)}/".startswith(f"{_canonical(outer)}/")


def _canonical(url: str) -> str:
    fs, path = resolve(url)
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if is_local_url(url):
        path = os.path.realpath(path)
    return f"{protocol}:{path.rstrip('/')}"
