"""Settings in a TOML file: what the files of jobs and of training runs have in common."""

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import UsageError

__all__ = ["read_toml", "suggestion"]


def read_toml(path: str, known: Iterable[str]) -> dict[str, Any]:
    """The values of a TOML file, by name.

    Args:
        path: of the file.
        known: the names it may have.

    Raises:
        UsageError: it is missing, no TOML, or has another name.
    """
    try:
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the configuration: {error.strerror}", where=path) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the configuration is not TOML: {error}", where=path) from None
    known = tuple(known)
    for name in values:
        if name not in known:
            raise UsageError(f"no setting {name!r}", where=path, fix=suggestion(name, known))
    return values


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Which known word was meant, if one is close."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else None
