"""What a source is called: the name that it is given, or else that of its file or folder.

    books=corpora/*.jsonl           books
    corpora/poems.v2.jsonl.zst      poems.v2    the file, without the suffixes of formats
    corpora/books/*.jsonl           books       the last part without wildcards
    poems-*.jsonl                   poems       or else what comes before the first one
    ORG/NAME@REVISION:CONFIG        NAME        a data set of the hub

Folders of partitioned data are called KEY=VALUE, so what has an equals sign may be a path as a
whole. It is one if files match it, and no others match what follows the sign.
"""

import glob
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from ...schemas.errors import UsageError
from ..core.choices import Format
from .companions import BESIDE_DS
from .formats import COMPRESSIONS, SUFFIXES

__all__ = ["name_of", "split_name"]

WILD = re.compile(r"[*?\[]")
NOT_IN_NAMES = re.compile(r"[,=]")
SEPARATORS = "-_. "
WARC = ".warc"
"""What precedes `.wet` in names of Common Crawl."""


def split_name(text: str) -> tuple[str | None, str]:
    """Divides [NAME=]PATTERN into the name, None if there is none, and the pattern.

    Raises:
        UsageError: some files match the whole text, and others what follows its equals sign.
    """
    name, equals, pattern = text.partition("=")
    if not equals or "/" in name:
        return None, text
    matches = set(_matches(text)) if pattern else set()
    if not matches:
        return name, pattern
    if any(path not in matches for path in _matches(pattern)):
        raise UsageError(
            f"--source {text!r} can be read in two ways: there are files for {text!r}, and for "
            f"{pattern!r} under the name {name!r}",
            expected="NAME=PATTERN",
            fix=f"write ./{text} for the former, {name}=./{pattern} for the latter",
        )
    return None, text


def _matches(pattern: str) -> Iterator[str]:
    """What a path or glob matches on the local disk."""
    try:
        yield from glob.iglob(pattern, recursive=True)  # noqa: PTH207
    except ValueError:  # no path has a NUL, or half a character
        return


def name_of(pattern: str, of: Format | None) -> str:
    """The name of a source that is given none, from its pattern alone.

    Args:
        pattern: a file, folder, glob, URL or name of a data set.
        of: the format, if one is given.

    Raises:
        UsageError: nothing in the pattern can be a name.
    """
    path = pattern.partition("://")[2] or pattern
    if of == "hub":
        path = re.split("[@:]", path)[0]
    parts = [part for part in PurePosixPath(path).parts if part.strip("/.")]
    plain = [part for part in parts if not WILD.search(part)]
    begun = [stem for part in parts if (stem := WILD.split(part)[0].strip(SEPARATORS))]
    found = _stem(plain[-1]) if plain else begun[0] if begun else ""
    if not found:
        raise UsageError(f"nothing in {pattern!r} can name the source", expected=f"NAME={pattern}")
    return NOT_IN_NAMES.sub("-", found)


def _stem(name: str) -> str:
    """A file's name without the suffixes of its format and its compression."""
    for known in (BESIDE_DS, (*COMPRESSIONS,), (*SUFFIXES,), (WARC,)):
        ending = next((each for each in known if name.lower().endswith(each)), "")
        name = name[: -len(ending)] if 0 < len(ending) < len(name) else name
    return name
