"""Names of files that belong to no data set, whatever their format.

    hidden       a name that begins with a dot
    leftovers    what begins with an underscore, as Spark and Hive read folders (`_temporary/`,
                 `_SUCCESS`, but not the partition `_year=2020/`), and what other programs leave
                 behind or write beside the data: downloads that were not finished, locks, caches,
                 backups, checksums

The name of a folder counts for all that is in it. A pattern that spells out such a name, as
`in/_kept/*.jsonl` does, asks for it.
"""

import fnmatch
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

__all__ = ["is_hidden", "is_leftover"]

FOLDERS = ("_*", "lost+found", "beam-temp-*")
ENDINGS = (
    *("*.tmp", "*.temp", "*.lock", "*.lck", "*.pid", "*._copying_"),
    *("*.incomplete", "*.inprogress", "*.inprogress.*", "*.pending", "*.partial", "*.filepart"),
    *("*.crdownload", "*.download", "*.opdownload", "*.aria2"),
    *("*~", "#*#", "*.bak", "*.orig", "*.swp"),
    *("*.crc", "*.md5", "*.sha1", "*.sha256", "*.sha512", "*.sig", "*.asc"),
)
CACHES = ("cache-*.arrow", "tmp" + 8 * "[a-z0-9_]")
"""What `datasets` keeps beside the files of a saved data set; the latter while it is written."""


def is_hidden(name: str, pattern: str) -> bool:
    """Whether a file is hidden.

    Args:
        name: relative to the part of the source's pattern that has no wildcard.
        pattern: the rest of the pattern; empty for a folder.
    """
    return _has_more(_is_hidden_part, name, pattern)


def is_leftover(name: str, pattern: str) -> bool:
    """Whether a file is a leftover; see `is_hidden` for the arguments."""
    return _has_more(_is_leftover_part, name, pattern) or (
        _is_leftover_file(PurePosixPath(name).name)
        and not _is_leftover_file(PurePosixPath(pattern).name)
    )


def _has_more(test: Callable[[str], bool], name: str, pattern: str) -> bool:
    """Whether more parts of a name pass a test than the pattern spells out."""
    return sum(map(test, name.split("/"))) > sum(map(test, pattern.split("/")))


def _is_hidden_part(part: str) -> bool:
    return part.startswith(".")


def _any_of(patterns: Iterable[str]) -> Callable[[str], object]:
    return re.compile("|".join(map(fnmatch.translate, patterns))).match


_matches_folder, _matches_file = _any_of(FOLDERS), _any_of((*ENDINGS, *CACHES))


def _is_leftover_part(part: str) -> bool:
    return bool(_matches_folder(part)) and "=" not in part


def _is_leftover_file(base: str) -> bool:
    return bool(_matches_file(base.lower()))
