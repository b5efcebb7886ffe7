"""JSON that others wrote, read so strictly that no two readers can find different things in it.

Python's own reader takes the last of two equal keys, takes NaN, makes infinity of 1e999, and
guesses among encodings. Here each of these is an error.
"""

import json
import math
from collections.abc import Iterable
from typing import Any

__all__ = ["parse_json"]

MOST_LEVELS = 100
"""How deep arrays and objects may be nested."""
MOST_DIGITS = 40
"""Of a whole number: more than any setting can have, and a float can still hold it."""


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not UTF-8, or not JSON; an object has a key twice; a number is not finite
            or too long; it is nested too deeply. The message says which, and where if it can.
    """
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start:,}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


_TOO_DEEP = f"it is nested in more than {MOST_LEVELS} levels"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key {_short(twice)!r} twice")
    return found


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"the number {_short(digits)} is too large")
    return value


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"the number {_short(digits)} has more than {MOST_DIGITS} digits")
    return int(digits)


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:40]}..."


def _check_depth(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(MOST_LEVELS + 1):
        level = [part for outer in level for part in _parts(outer)]
    if level:
        raise ValueError(_TOO_DEEP)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()  # pyright: ignore[reportUnknownVariableType]
    return value if isinstance(value, list) else ()  # pyright: ignore[reportUnknownVariableType]
