"""Counts as people write and read them."""

import string
from decimal import Decimal

__all__ = ["parse_size", "plural"]

DECIMAL = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
BINARY = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def parse_size(text: str) -> int:
    """A count of tokens or bytes: 4096, 256M (millions), 10B (billions), 32MiB.

    Raises:
        ValueError: the text is not such a count.
    """
    compact = text.strip().replace("_", "").replace(",", "").lower()
    number = compact.rstrip(string.ascii_lowercase)
    unit = compact[len(number) :]
    scale = (DECIMAL | BINARY).get(
        unit.removesuffix("b") if unit in ("kb", "mb", "gb", "tb") else unit
    )
    if scale is None or not _is_decimal(number) or len(number) > 20:
        raise ValueError(f"{text!r} is not a size such as 4096, 256M, 10B or 32MiB")
    size = Decimal(number) * scale
    if size != size.to_integral_value():
        raise ValueError(f"{text!r} is not a whole number")
    return int(size)


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: "1 window", "1,234 windows", "2 copies".

    Args:
        count: how many there are.
        one: the noun for one.
        many: the noun for any other count; by default `one` with an s.
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _is_decimal(text: str) -> bool:
    digits = text.replace(".", "", 1)
    return digits.isascii() and digits.isdigit()
