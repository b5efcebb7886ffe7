"""Settings: one set of names for flags and TOML files, with the types that a dataclass gives them.

    class Job:
        window: Size = 8192                     4096 or "4k"
        packing: Literal["concat", "best_fit"]  one of its choices
        alpha: float = 0.15                     0.15 or 1
        runner_args: list[str]                  ["--x"]
        eval: Mapping[str, str] | None = None   { NAME = "VALUE" }

`kinds(Job)` gives the kind of each setting, from which a command line makes its flags; `typed`
turns a value from a TOML file into what its flag would give. Neither a flag nor a file can say
None: a setting that is left out has its default.
"""

import difflib
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from .errors import FormatError, UsageError
from .regular import read_regular
from .sizes import parse_size

__all__ = ["Kind", "Size", "check_range", "flag_of", "kinds", "read_toml", "suggestion", "typed"]

MOST_BYTES = 1 << 24
"""Of a configuration."""

_SIZE = "a size"

Size = Annotated[int, _SIZE]
"""The type of a setting that counts tokens or bytes: it may be written as 256M, 10B or 32MiB."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the values of a setting are.

    Attributes:
        type: int, float, str or bool; list and dict contain strings.
        choices: the strings to choose from; empty if any value of the type will do.
        is_size: whether the number may be written with a unit, as a `Size`.
    """

    type: type
    choices: tuple[str, ...] = ()
    is_size: bool = False


def kinds(settings: type, *, without: Collection[str] = ()) -> dict[str, Kind]:
    """The kind of each setting, in order.

    Args:
        settings: a dataclass, or another class with type hints.
        without: attributes that are not settings.

    Raises:
        TypeError: a type hint is of no kind that a file and a flag can give.
    """
    hints = get_type_hints(settings, include_extras=True)
    return {name: _kind(name, hint) for name, hint in hints.items() if name not in without}


def _kind(name: str, hint: Any) -> Kind:
    if get_origin(hint) in (Union, UnionType):
        alternatives = [part for part in get_args(hint) if part is not type(None)]
        hint = alternatives[0] if len(alternatives) == 1 else hint
    if hint == Size:
        return Kind(type=int, is_size=True)
    if get_origin(hint) is Literal:
        return Kind(type=str, choices=get_args(hint))
    found = {list[str]: list, Mapping[str, str]: dict}.get(hint, hint)
    if found not in _WORDS:
        raise TypeError(f"a setting cannot have the type of {name}: {hint}")
    return Kind(type=found)


_WORDS: dict[type, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    list: "a list of strings",
    dict: 'a table of strings: { NAME = "VALUE" }',
}


def flag_of(setting: str) -> str:
    """The flag of a setting, as the command line has it."""
    return "--" + setting.replace("_", "-")


def typed(name: str, value: Any, kind: Kind, where: str | None) -> Any:
    """A value from a TOML file as its flag would give it.

    Args:
        name: of the setting.
        value: as TOML has it: a size may be a string, a float may be a whole number.
        kind: what a value of the setting is.
        where: the file; None if the value is not from a file.

    Raises:
        UsageError: the value is of another kind, or not one of the choices.
    """
    if kind.choices:
        _check(value in kind.choices, name, value, " or ".join(kind.choices), where)
        return value
    if kind.is_size and isinstance(value, str):
        try:
            return parse_size(value)
        except ValueError as error:
            raise UsageError(f"{name}: {error}", where=where) from None
    _check(_is_of(value, kind.type), name, value, _WORDS[kind.type], where)
    return float(value) if kind.type is float else value


def _is_of(value: Any, wanted: type) -> bool:
    if isinstance(value, bool):  # to Python also an int
        return wanted is bool
    if wanted is float:
        return isinstance(value, int | float)
    if not isinstance(value, wanted):
        return False
    inside: Any = value if wanted is list else value.values() if wanted is dict else ()
    return all(isinstance(each, str) for each in inside)


def _check(condition: bool, name: str, value: Any, expected: str, where: str | None) -> None:
    if not condition:
        raise UsageError(f"{name} is {value!r}", where=where, expected=expected)


def check_range(
    name: str, value: float | None, low: float, high: float | None, *, where: str | None = None
) -> None:
    """Checks that a setting is inside its range, both ends included; NaN is in no range.

    Args:
        name: of the setting.
        value: None passes.
        low: the smallest value.
        high: the largest; None if there is none.
        where: the file that the value is from.

    Raises:
        UsageError: it is not.
    """
    if value is None or (value >= low and (high is None or value <= high)):
        return
    expected = f"at least {low:,}" if high is None else f"{low:,} to {high:,}"
    raise UsageError(f"{name} is {value:,}", where=where, expected=expected)


def read_toml(path: str, known: Iterable[str]) -> dict[str, Any]:
    """The values of a TOML file, by name.

    Args:
        path: of the file.
        known: the names it may have.

    Raises:
        UsageError: it is missing, is not valid TOML, or has another name or a NUL character.
    """
    try:
        values = tomllib.loads(read_regular(Path(path), MOST_BYTES).decode())
    except (OSError, FormatError) as error:
        what = error.found if isinstance(error, FormatError) else error.strerror
        raise UsageError(
            f"cannot read the configuration: {what}",
            where=path,
            expected="a TOML file with settings",
        ) from None
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(
            f"the configuration is not valid TOML: {what}",
            where=path,
            fix="correct the file; --print-config prints a valid one",
        ) from None
    known = tuple(known)
    for name in values:
        if name not in known:
            raise UsageError(f"unknown setting {name!r}", where=path, fix=suggestion(name, known))
        if _has_nul(values[name]):
            raise UsageError(
                f"the setting {name!r} has a NUL character",
                where=path,
                expected="text that can be a path or a name",
            )
    return values


def _has_nul(value: Any) -> bool:
    """Whether a text in a value of TOML has the one character that no path can have."""
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return any(map(_has_nul, [*table, *table.values()]))
    if isinstance(value, list):
        return any(map(_has_nul, cast("list[Any]", value)))
    return isinstance(value, str) and "\0" in value


def suggestion(word: str, known: Iterable[str]) -> str | None:
    """Asks whether the closest known word was meant, if one is close."""
    close = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {close[0]!r}?" if close else None
