"""The settings and figures of an inspection in words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ....schemas.sizes import plural
from ...config import PackConfig
from ...pack.settings import Settings
from ..json_types import BucketJson, RowJson
from ..subject import ALWAYS_NAMED, SETTINGS

__all__ = [
    "bucket_range",
    "capacity",
    "documents_and_tokens",
    "figure",
    "percent",
    "settings_line",
    "tail_sum",
    "value_text",
]


def settings_line(settings: Settings, names: Sequence[str] = SETTINGS) -> str:
    """The settings that people ask about, and those that differ from their defaults."""
    fields = PackConfig.__dataclass_fields__
    shown = [
        f"{name.replace('_', ' ')} {value_text(settings[name])}"
        for name in names
        if name in ALWAYS_NAMED
        or (name == "mixing" and _mixing(settings[name]) != "-")
        or (name != "mixing" and settings[name] != fields[name].default)
    ]
    return ", ".join(shown)


def value_text(value: object) -> str:
    """A setting as a person reads it; the only mapping among them is `mixing`."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(value_text, value))
        case Mapping():
            return _mixing(value)
    return str(value)


def _mixing(mixing: Mapping[str, Any]) -> str:
    """How often sources are seen, except those that are seen once."""
    mixed = [
        f"{name} {kind} {amount:g}"
        for name, asked in mixing.items()
        for kind, amount in asked.items()
        if (kind, amount) != ("epochs", 1)
    ]
    return ", ".join(mixed) or "-"


def documents_and_tokens(documents: int, tokens: int) -> str:
    """ "3 documents, 1,200 tokens"."""
    return f"{plural(documents, 'document')}, {plural(tokens, 'token')}"


def bucket_range(bucket: BucketJson) -> str:
    """The effective contexts of a bucket, with a star for the tail."""
    return f"{bucket['low']}-{bucket['high']}{' *' if bucket['in_tail'] else '  '}"


def percent(count: float, total: float) -> str:
    """A fraction as a percentage; a fraction of nothing is a dash."""
    return f"{count / total:.2%}" if total else "-"


def figure(value: float | None, form: str) -> str:
    """A figure in the given format; a dash if there is none."""
    return "-" if value is None else format(value, form)


def tail_sum(row: RowJson, key: Literal["share", "mass_after"]) -> float:
    """The sum over the buckets of the tail."""
    return sum(bucket[key] for bucket in row["buckets"] if bucket["in_tail"])


def capacity(row: RowJson) -> int:
    """Tokens that the windows hold, padding included."""
    return row["windows"] * row["settings"]["window"]
